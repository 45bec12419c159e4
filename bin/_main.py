"""Code that all commands share: parsing of flags, logging, and errors as one message."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags

from t2t_vqem.bin import _quiet
from t2t_vqem.constants import UsageError
from t2t_vqem.files import FULL_DISK, check_local

USAGE_STATUS = 2
STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: run the command again to continue
INTERRUPTED_STATUS = 128 + 2  # the status of a program ended by SIGINT
BROKEN_PIPE_STATUS = 128 + 13  # the status of a program ended by SIGPIPE
_EXPECTED = (
    "tf.function retracing",
    "Collective all_reduce tensors",
    "Check health not enabled",
    "Assets written to",  # in a temporary folder, on the way to an export
    # A checkpoint that does not match the model is an error with its own message.
    "being deleted with unrestored values",
    "Value in checkpoint could not be found in the restored object",
)


def run(
    main: Callable[[list[str]], int | None],
    flag_values: flags.FlagValues,
    argv: Sequence[str] | None = None,
    *,
    after_interrupt: str = "",
) -> NoReturn:
    """Parses the flags, runs `main` and exits with its status.

    Args:
        main: called with a list of only the program's name, since no arguments remain; its return
            value is the exit status, None for 0.
        flag_values: the flags of the command. Each command has its own `flags.FlagValues()`, so
            that one process can import several commands with the same name of a flag.
        argv: the program's name and its arguments; None for sys.argv.
        after_interrupt: how to continue after Ctrl-C, a complete sentence; "" if it is impossible.

    A `UsageError` (also an unknown name or a missing optional dependency) or a full disk is printed
    as one message without a traceback, and the exit status is 2. Ctrl-C prints one line and exits
    with status 130.
    """
    module = sys.modules[main.__module__]
    name = module.__spec__.name if module.__spec__ else module.__name__
    program = "t2t-" + name.rpartition(".")[2].removeprefix("t2t_").replace("_", "-")
    argv = list(sys.argv if argv is None else argv)
    if any(argument in ("-h", "-help", "--help", "--helpfull") for argument in argv[1:]):
        print(f"{(module.__doc__ or '').strip()}\n\nFlags of {program}:{_help(flag_values)}")
        sys.exit(0)
    _start_logging()
    _quiet.start()
    try:
        rest = _parse(flag_values, argv)
        status = main(rest)
        sys.stdout.flush()
        sys.exit(status)
    except UsageError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(USAGE_STATUS)
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted. {after_interrupt}".rstrip(), file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)
    except BrokenPipeError:  # the reader has ended, as in `t2t-decoder ... | head`
        # Discards the output that Python flushes at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE_STATUS)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        where = f", writing {error.filename}" if error.filename else ""
        print(
            f"{program}: error: no space left on the disk{where}. Free some space and run the same "
            "command again",
            file=sys.stderr,
        )
        sys.exit(USAGE_STATUS)


def _start_logging() -> None:
    """Logs messages from INFO on, without TensorFlow's messages about expected behaviour."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.WARNING)  # hides the duration of checkpoint writing
    # Each batch shape is traced once on each device. There are few shapes, but they all come at the
    # start, and TensorFlow warns of retracing. It also logs every all-reduce over the workers.
    logging.getLogger("tensorflow").addFilter(
        lambda record: not any(text in record.getMessage() for text in _EXPECTED)
    )


class MergedFlag(flags.Flag):
    """A list in a string, of which all parts count when the flag is given several times."""

    def parse(self, argument: str) -> None:
        before = self.value if self.present else ""
        super().parse(argument)
        self.value = ",".join(filter(None, (before, self.value)))


def define_overrides(flag_values: flags.FlagValues, name: str, help: str) -> None:
    """Defines a flag of overrides, 'name=value,name=value', which may be given several times."""
    flag = MergedFlag(flags.ArgumentParser(), flags.ArgumentSerializer(), name, "", help)
    flags.DEFINE_flag(flag, flag_values)


def _parse(flag_values: flags.FlagValues, argv: list[str]) -> list[str]:
    for name in flag_values:
        flag_values[name].unparse()  # forget the values of an earlier command in the same process
    try:
        rest = flag_values(argv)
    except flags.Error as error:
        raise UsageError(f"{error} (--help lists the flags)") from error
    for name in flag_values:
        values = flag_values[name].value
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str):
                check_local(value, f"--{name}")
    if len(rest) > 1:
        raise UsageError(f"unexpected argument {rest[1]!r}: arguments are written --flag=value")
    return rest


def _help(flag_values: flags.FlagValues) -> str:
    """Returns the help text of the command's flags, without those of libraries."""
    foreign = ("absl", "tensorflow", "keras")
    modules = [m for m in flag_values.flags_by_module_dict() if not m.startswith(foreign)]
    return "".join(flag_values.module_help(m).partition(":")[2] for m in modules)
