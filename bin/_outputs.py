"""Checks output files given by flags, and locks them against other commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from absl import flags

from t2t_vqem import files
from t2t_vqem.constants import UsageError


@contextlib.contextmanager
def reserved(
    values: flags.FlagValues, outputs: Sequence[str], inputs: Sequence[str]
) -> Iterator[None]:
    """Checks output files before anything slow starts, and locks them against other commands.

    Args:
        values: the flags. A flag that is not set, or is "-", is ignored.
        outputs: names of the flags of output files.
        inputs: names of the flags of input files.

    Raises:
        UsageError: a file cannot be written, is also an input or the output of another flag, or
            another process is writing it.
    """
    taken = {name: values[name].value for name in inputs}
    with contextlib.ExitStack() as stack:
        for name in outputs:
            path = values[name].value
            if path in (None, "", "-"):
                continue
            for other, other_path in taken.items():
                if other_path and files.same_file(path, other_path) and not files.is_special(path):
                    raise UsageError(
                        f"--{name}={path} and --{other}={other_path} are the same file, which "
                        "would be overwritten: choose another output"
                    )
            files.check_output(path, f"--{name}={path}")
            taken[name] = path
            if not files.is_special(path):
                path = os.path.realpath(path)
                stack.enter_context(
                    files.locked(
                        f"{path}.lock",
                        f"{path} is being written by another command",
                        remedy="Wait until it is done, or choose another file",
                    )
                )
        yield
