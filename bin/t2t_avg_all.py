"""Averages the weights of a run's last checkpoints; writes the result to OUTPUT_DIR/averaged.

    t2t-avg-all --output_dir=runs/base --n=5

To decode with the averaged weights, use `t2t-decoder --checkpoint=averaged`; to evaluate them,
`t2t-trainer --schedule=evaluate --checkpoint=averaged`.
"""

from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main
from t2t_vqem.constants import UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", None, "Folder of the run.", flag_values=FLAGS)
flags.DEFINE_integer("n", 5, "Number of checkpoints.", lower_bound=1, flag_values=FLAGS)
flags.DEFINE_string(
    "t2t_usr_dir",
    None,
    "Folder of a plug-in, as a package; needed for a run with a plug-in that you did not train "
    "here.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Averages the last --n checkpoints in --output_dir."""
    del argv
    if not FLAGS.output_dir:
        raise UsageError("--output_dir is missing: expected the folder of a run")
    registry.load_plugins(FLAGS.t2t_usr_dir)
    from t2t_vqem.output_dir import OutputDir  # imported here, so that --help needs no TensorFlow
    from t2t_vqem.training.averaging import average_checkpoints

    print(average_checkpoints(OutputDir(FLAGS.output_dir), FLAGS.n))


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv)


if __name__ == "__main__":
    entry_point()
