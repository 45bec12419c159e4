"""Trains a model on a problem, evaluates it on the dev split, and resumes stopped runs.

    t2t-trainer --problem=translate_ende_multi30k --model=transformer \\
        --hparams_set=transformer_multi30k --data_dir=data --output_dir=runs/multi30k \\
        --train_steps=3000

To resume a run, only --output_dir is needed (and perhaps a higher --train_steps). The results are
the same as without the stop. A step is one update of the weights. On SIGTERM or SIGINT the trainer
saves a checkpoint and exits with status 75, which means that the run is not finished.
"""

from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main, _registry_flag
from t2t_vqem.constants import MAX_SEED, UsageError

FLAGS = flags.FlagValues()


def _define_flags() -> None:
    def text(name: str, default: str | None, help: str) -> None:
        flags.DEFINE_string(name, default, help, flag_values=FLAGS)

    def number(
        name: str, default: int | None, help: str, least: int, most: int | None = None
    ) -> None:
        flags.DEFINE_integer(
            name, default, help, lower_bound=least, upper_bound=most, flag_values=FLAGS
        )

    text("output_dir", None, "Folder of the run.")
    text("problem", None, "Registered problem.")
    text("model", None, "Registered model; can be omitted with --hparams_set.")
    text("hparams_set", None, "Registered set of hyperparameters.")
    _main.define_overrides(FLAGS, "hparams", "Hyperparameters, 'name=value,name=value'.")
    _main.define_overrides(
        FLAGS, "problem_params", "Settings of the problem that its data was generated with."
    )
    flags.DEFINE_multi_string("gin_file", [], "File of gin bindings.", flag_values=FLAGS)
    flags.DEFINE_multi_string("gin_param", [], "Gin binding.", flag_values=FLAGS)
    text("data_dir", None, "Folder with the data that t2t-datagen wrote.")
    text("t2t_usr_dir", None, "Folder with your own problems and models, as a package.")
    text(
        "warm_start_from",
        None,
        "Output directory of another run, such as the teacher of a latent model: initialise all "
        "weights that have the same names and shapes with the weights of that run. With another "
        "vocabulary, embeddings of pieces that both have are kept.",
    )
    number("seed", None, "Seed of weights, batches and dropout; default: 1.", 0, MAX_SEED)
    number("train_steps", None, "Number of updates of the whole run; default: 250000.", 1)
    flags.DEFINE_enum(
        "schedule",
        "train_and_evaluate",
        ["train_and_evaluate", "train", "evaluate"],
        "What to run. evaluate: evaluate a checkpoint on the dev split.",
        flag_values=FLAGS,
    )
    flags.DEFINE_enum(
        "strategy",
        "auto",
        ["auto", "one_device", "mirrored", "multi_worker", "tpu"],
        "Distribution strategy. auto: multi_worker if TF_CONFIG is set, else all GPUs, else the "
        "CPU.",
        flag_values=FLAGS,
    )
    flags.DEFINE_list(
        "devices",
        [],
        "Devices for one_device and mirrored, such as gpu:0,gpu:1; default: all GPUs, else cpu:0. "
        "cpu:0,cpu:1 makes two replicas on one processor, to test that results are the same.",
        flag_values=FLAGS,
        allow_overwrite=False,
    )
    flags.DEFINE_bool("xla", True, "Compile with XLA.", flag_values=FLAGS)
    number("local_eval_frequency", 1000, "Updates between evaluations.", 1)
    number(
        "eval_early_stopping_patience",
        None,
        "End the run when this many evaluations in a row did not improve; 0 to train to the last "
        "step; default: 0.",
        0,
    )
    flags.DEFINE_enum(
        "eval_early_stopping_metric",
        None,
        ["bleu", "chrf", "loss"],
        "Metric of --eval_early_stopping_patience, on the dev split; default: bleu, or loss for "
        "images.",
        flag_values=FLAGS,
    )
    number("save_checkpoints_steps", 1000, "Updates between checkpoints.", 1)
    number("keep_checkpoint_max", 10, "Number of latest checkpoints to keep.", 1)
    number("log_step_count_steps", 100, "Updates between reports of loss and speed.", 1)
    flags.DEFINE_list(
        "profile_steps",
        [],
        "Record a profile for TensorBoard from the first of two steps until the second, such as "
        "10,20.",
        flag_values=FLAGS,
        allow_overwrite=False,
    )
    flags.DEFINE_list(
        "trackers",
        [],
        "Experiment trackers that get settings and metrics of the run: wandb, mlflow. Where they "
        "store them is set in the environment, as they document it.",
        flag_values=FLAGS,
        allow_overwrite=False,
    )
    text(
        "checkpoint",
        None,
        "For --schedule=evaluate: best, latest, averaged or a path; default: best, else latest.",
    )
    _registry_flag.define_registry_help(FLAGS)


_define_flags()


def _steps(name: str) -> list[int]:
    try:
        return [int(step) for step in FLAGS[name].value]
    except ValueError:
        raise UsageError(
            f"--{name}={','.join(FLAGS[name].value)}: expected numbers of steps, such as 10,20"
        ) from None


def main(argv: list[str]) -> int:
    """Runs --schedule in --output_dir, or prints --registry_help; returns the exit status."""
    del argv
    if FLAGS["registry_help"].value is not None:
        registry.load_plugins(FLAGS.t2t_usr_dir)
        if _registry_flag.show_registry_help(FLAGS):
            return 0
    if not FLAGS.output_dir:
        raise UsageError("--output_dir is missing: expected the folder of the run")
    if FLAGS.checkpoint and FLAGS.schedule != "evaluate":
        raise UsageError(
            "--checkpoint is only for --schedule=evaluate. Training continues from the latest "
            "checkpoint in --output_dir: omit the flag"
        )
    from t2t_vqem.training import trainer  # imported here, so that --help needs no TensorFlow

    outcome = trainer.run(
        trainer.Request(
            output_dir=FLAGS.output_dir,
            problem=FLAGS.problem,
            model=FLAGS.model,
            hparams_set=FLAGS.hparams_set,
            hparams=FLAGS.hparams,
            problem_params=FLAGS.problem_params,
            gin_files=FLAGS.gin_file,
            gin_params=FLAGS.gin_param,
            data_dir=FLAGS.data_dir,
            t2t_usr_dir=FLAGS.t2t_usr_dir,
            warm_start_from=FLAGS.warm_start_from,
            seed=FLAGS.seed,
            train_steps=FLAGS.train_steps,
            schedule=FLAGS.schedule,
            strategy=FLAGS.strategy,
            devices=FLAGS.devices,
            xla=FLAGS.xla,
            local_eval_frequency=FLAGS.local_eval_frequency,
            eval_early_stopping_metric=FLAGS.eval_early_stopping_metric,
            eval_early_stopping_patience=FLAGS.eval_early_stopping_patience,
            save_checkpoints_steps=FLAGS.save_checkpoints_steps,
            keep_checkpoint_max=FLAGS.keep_checkpoint_max,
            log_step_count_steps=FLAGS.log_step_count_steps,
            profile_steps=_steps("profile_steps"),
            trackers=FLAGS.trackers,
            checkpoint=FLAGS.checkpoint,
        )
    )
    return _main.STOPPED_STATUS if outcome.stopped else 0


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(
        main, FLAGS, argv, after_interrupt="The same command continues from the latest checkpoint"
    )


if __name__ == "__main__":
    entry_point()
