"""Makes the data of a problem: vocabulary and records, in --data_dir/PROBLEM.

    t2t-datagen --problem=translate_ende_multi30k --source_dir=multi30k --data_dir=data
    t2t-datagen --problem=translate_text --source_dir=mine --data_dir=data \\
        --problem_params='source_language=en,target_language=fr'
    t2t-datagen --problem=translate_ende_wmt14 --tfds_dir=prepared --data_dir=data

Uses all cores. Started again after a kill, it goes on from what was finished, to the same result.
Prints what was kept and what was dropped, and why; report.txt beside the data has it too.

    t2t-datagen --problem=translate_ende_multi30k_distilled --teacher_dir=runs/teacher \\
        --data_dir=data --problem_params='beam_size=4'

Translates the training sources of translate_ende_multi30k, whose data lie in --data_dir, with the
run in --teacher_dir that was trained on them; the translations become the targets. On several
machines that see the same folders, run it with --num_shards=4 and --shard=0 to --shard=3, and then
without them to put everything together.
"""

import os
from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main, _registry_flag
from t2t_vqem.constants import UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_string("problem", None, "Registered problem.", flag_values=FLAGS)
flags.DEFINE_string(
    "data_dir", None, "Where the data goes, in a folder PROBLEM.", flag_values=FLAGS
)
flags.DEFINE_string("source_dir", None, "Folder with your files.", flag_values=FLAGS)
flags.DEFINE_string(
    "tfds_dir",
    None,
    "Folder with data sets that TFDS has prepared; nothing is downloaded then.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_workers",
    None,
    "Processes; default: one for each core. The result is the same.",
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
    "Of a distilled problem: the run that translates, an output directory of t2t-trainer.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "checkpoint",
    None,
    "Of a distilled problem: the teacher's weights, 'best', 'latest', 'averaged' (by t2t-avg-all) "
    "or a checkpoint's path; default: best, or latest where there is no best.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "shard",
    None,
    "Of a distilled problem: do only this share of the translating, 0 to --num_shards - 1.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_shards",
    None,
    "Of a distilled problem: how many shares there are.",
    lower_bound=1,
    flag_values=FLAGS,
)
_registry_flag.define_registry_help(FLAGS)
_SOURCE_FLAGS = ("source_dir", "tfds_dir", "teacher_dir", "checkpoint")
_SHARD_FLAGS = ("shard", "num_shards")


def main(argv: list[str]) -> None:
    """Generates --problem in --data_dir, or shows what there is."""
    del argv
    registry.load_plugins(FLAGS.t2t_usr_dir)
    if _registry_flag.show_registry_help(FLAGS):
        return
    if not FLAGS.problem:
        raise UsageError(
            "--problem is missing. Expected one of: " + ", ".join(registry.problems.names())
        )
    problem_class = registry.problems.get(FLAGS.problem)
    if not FLAGS.data_dir:
        raise UsageError("--data_dir is missing, the folder that the data goes to.")
    from t2t_vqem.problem import make_problem  # here, so that --help answers at once

    data_dir = os.path.expanduser(FLAGS.data_dir)
    given = {name: FLAGS[name].value for name in _SOURCE_FLAGS}
    shard = {name: FLAGS[name].value for name in _SHARD_FLAGS}
    problem_class.check_flags(**given, **shard)
    if (FLAGS.shard is None) != (FLAGS.num_shards is None):
        raise UsageError(
            f"got --shard={FLAGS.shard} and --num_shards={FLAGS.num_shards}: give both for a share "
            "of the work, neither for all of it and to put it together."
        )

    problem = make_problem(
        FLAGS.problem,
        data_dir,
        gin_files=FLAGS.gin_file,
        gin_params=FLAGS.gin_param,
        problem_params=FLAGS.problem_params,
    )
    if FLAGS.shard is not None:
        print(problem.translate_shard(data_dir, **given, **shard))
        return
    dataset = problem.generate(data_dir, num_workers=FLAGS.num_workers, **given)
    print(dataset.report)
    print(f"{dataset.directory} is ready.")


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv, after_interrupt="The same command goes on from what is finished")


if __name__ == "__main__":
    entry_point()
