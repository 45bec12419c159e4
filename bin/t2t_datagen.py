"""Generates the data of a problem, its vocabulary and records, in --data_dir/PROBLEM.

    t2t-datagen --problem=translate_ende_multi30k --source_dir=multi30k --data_dir=data
    t2t-datagen --problem=translate_text --source_dir=mine --data_dir=data \\
        --problem_params='source_language=en,target_language=fr'
    t2t-datagen --problem=translate_ende_wmt14 --tfds_dir=prepared --data_dir=data

Uses all cores. After a kill, the same command continues from the finished parts, to the same
result. Prints a report of what was kept and what was dropped and why; it is also in report.txt.

    t2t-datagen --problem=translate_ende_multi30k_distilled --teacher_dir=runs/teacher \\
        --data_dir=data --problem_params='beam_size=4'

Translates the training sources of translate_ende_multi30k, whose data is in --data_dir, with the
run in --teacher_dir, which was trained on them. The translations become the targets.

    t2t-datagen --problem=translate_ende_wmt14 --tfds_dir=prepared --data_dir=data \\
        --num_shards=4 --shard=0

On several machines that share the folders, run it with --shard=0 to --shard=3, and then without
--shard and --num_shards, which checks and combines the shards.
"""

import os
from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main, _registry_flag
from t2t_vqem.constants import UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_string("problem", None, "Registered problem.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", None, "Folder to write the data to, in PROBLEM.", flag_values=FLAGS)
flags.DEFINE_string("source_dir", None, "Folder with your files.", flag_values=FLAGS)
flags.DEFINE_string(
    "tfds_dir",
    None,
    "Folder with data sets prepared by TFDS; with this flag, nothing is downloaded.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_workers",
    None,
    "Number of processes; default: one for each core. It does not change the result.",
    lower_bound=1,
    flag_values=FLAGS,
)
_main.define_overrides(FLAGS, "problem_params", "Settings of the problem, 'name=value,name=value'.")
flags.DEFINE_multi_string("gin_file", [], "File of gin bindings.", flag_values=FLAGS)
flags.DEFINE_multi_string("gin_param", [], "Gin binding.", flag_values=FLAGS)
flags.DEFINE_string(
    "t2t_usr_dir", None, "Folder with your own problems, as a package.", flag_values=FLAGS
)
flags.DEFINE_string(
    "teacher_dir",
    None,
    "For distilled problems: the output directory of the run that translates.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "checkpoint",
    None,
    "For distilled problems: the teacher's weights, 'best', 'latest', 'averaged' (by t2t-avg-all) "
    "or the path of a checkpoint; default: best, or latest if there is no best.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "shard",
    None,
    "Make only this share of the data, 0 to --num_shards - 1.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_shards",
    None,
    "Number of shares that the work is divided into.",
    lower_bound=1,
    flag_values=FLAGS,
)
_registry_flag.define_registry_help(FLAGS)
_SOURCE_FLAGS = ("source_dir", "tfds_dir", "teacher_dir", "checkpoint")
_SHARD_FLAGS = ("shard", "num_shards")


def main(argv: list[str]) -> None:
    """Generates --problem in --data_dir, or prints --registry_help."""
    del argv
    registry.load_plugins(FLAGS.t2t_usr_dir)
    if _registry_flag.show_registry_help(FLAGS):
        return
    if not FLAGS.problem:
        names = ", ".join(registry.problems.names())
        raise UsageError(f"--problem is missing. Expected one of: {names}")
    problem_class = registry.problems.get(FLAGS.problem)
    if not FLAGS.data_dir:
        raise UsageError("--data_dir is missing, the folder that the data goes to.")
    from t2t_vqem.problem import make_problem  # here, so that --help answers at once

    data_dir = os.path.expanduser(FLAGS.data_dir)
    given = {name: FLAGS[name].value for name in _SOURCE_FLAGS}
    shard = {name: FLAGS[name].value for name in _SHARD_FLAGS}
    problem_class.check_flags(**given)
    if (FLAGS.shard is None) != (FLAGS.num_shards is None):
        raise UsageError(
            f"got --shard={FLAGS.shard} and --num_shards={FLAGS.num_shards}: give both to "
            "make one shard, or neither to make everything and combine the shards."
        )

    problem = make_problem(
        FLAGS.problem,
        data_dir,
        gin_files=FLAGS.gin_file,
        gin_params=FLAGS.gin_param,
        problem_params=FLAGS.problem_params,
    )
    if FLAGS.shard is not None:
        workers = FLAGS.num_workers
        print(problem.generate_shard(data_dir, num_workers=workers, **given, **shard))
        return
    dataset = problem.generate(data_dir, num_workers=FLAGS.num_workers, **given)
    print(dataset.report)
    print(f"{dataset.directory} is ready.")


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv, after_interrupt="The same command continues from finished parts")


if __name__ == "__main__":
    entry_point()
