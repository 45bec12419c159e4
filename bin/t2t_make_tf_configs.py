"""Prints the value of TF_CONFIG for each worker of a distributed run, one line for each worker.

    t2t-make-tf-configs --workers=a.example.org,b.example.org --port=2222

Start all workers with the same command, each with its own line in the environment variable
TF_CONFIG. With --index, only the line of one worker is printed:

    TF_CONFIG=$(t2t-make-tf-configs --workers=a,b --index=1) t2t-trainer --output_dir=runs/base
"""

from typing import NoReturn

from absl import flags

from t2t_vqem.bin import _main
from t2t_vqem.constants import UsageError
from t2t_vqem.tf_config import DEFAULT_PORT, complete_addresses, tf_configs

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "workers",
    [],
    "Hosts, host or host:port; the first is the chief.",
    flag_values=FLAGS,
    allow_overwrite=False,
)
flags.DEFINE_integer(
    "port",
    DEFAULT_PORT,
    "Port of the workers given without one.",
    lower_bound=1,
    upper_bound=2**16 - 1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "index", None, "Print only this worker, from 0; default: all.", lower_bound=0, flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Prints the lines of all --workers, or only that of --index."""
    del argv
    if not FLAGS.workers:
        raise UsageError("--workers is missing: expected host:port,host:port")
    lines = tf_configs(complete_addresses(FLAGS.workers, FLAGS.port))
    if FLAGS.index is not None:
        if FLAGS.index >= len(lines):
            raise UsageError(
                f"got --index={FLAGS.index} and {len(lines)} workers: expected an index from 0 to "
                f"{len(lines) - 1}"
            )
        lines = [lines[FLAGS.index]]
    print("\n".join(lines))


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv)


if __name__ == "__main__":
    entry_point()
