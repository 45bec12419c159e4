"""Exports a trained run to a folder for serving.

    t2t-exporter --output_dir=runs/nat --export_dir=exported
    t2t-exporter --output_dir=runs/nat --export_dir=exported --quantize=int8 \\
        --decode_hparams=num_candidates=9 --rescore_dir=runs/base
    t2t-exporter --output_dir=runs/base --export_dir=exported \\
        --decode_hparams=beam_size=4,num_best=4
    t2t-exporter --output_dir=runs/nat --export_dir=site --quantize=int8 --format=web

The default format, litert, runs on CPUs without TensorFlow: see `t2t_vqem.runtime`. The export is
compared with the run on the dev split; its README.md describes the model, its quality and how to
run it. The format web is the page of t2t-server as a folder for any static web server: the model
runs in the browser.

Beam size, candidates and rescorer are part of the exported graph, and must be chosen here. Alpha,
extra length, temperature and top-k are inputs of the graph; the values here are their defaults.
"""

from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main, _quiet
from t2t_vqem.constants import CTRANSLATE2, LITERT, SAVED_MODEL, WEB, UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", None, "The run: t2t-trainer's folder.", flag_values=FLAGS)
flags.DEFINE_string(
    "export_dir",
    None,
    "Folder to write; an existing export is replaced.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "format",
    LITERT,
    [LITERT, SAVED_MODEL, CTRANSLATE2, WEB],
    "Format of the export.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "quantize",
    "none",
    ["none", "int8"],
    "int8: 8-bit weights, several times as fast and a third of the size.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "checkpoint",
    None,
    "'best', 'latest', 'averaged' (by t2t-avg-all) or a checkpoint's path; default: best, or "
    "latest if there is no best.",
    flag_values=FLAGS,
)
_main.define_overrides(
    FLAGS,
    "decode_hparams",
    "Decoding options for text: beam_size, num_best, num_candidates, keep_repeats, alpha, "
    "extra_length, sampling_temperature, sampling_top_k, as 'name=value,name=value'.",
)
flags.DEFINE_string(
    "rescore_dir",
    None,
    "Latent models: run of a transformer, such as the teacher, that chooses among the candidates.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Generated data with the dev split for verification; default: the folder that the run was "
    "trained with.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "web_models",
    [],
    "Format web: other folders of this format, whose models the page offers too.",
    flag_values=FLAGS,
    allow_overwrite=False,
)
flags.DEFINE_bool(
    "verify", True, "Compare the export with the run on the dev split.", flag_values=FLAGS
)
flags.DEFINE_string(
    "t2t_usr_dir",
    None,
    "Folder of a plug-in, as a package; needed for a run with a plug-in that you did not train "
    "here.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Exports the run in --output_dir."""
    del argv
    for name in ("output_dir", "export_dir"):
        if not FLAGS[name].value:
            raise UsageError(f"--{name} is missing: expected a run and a folder to write to")
    registry.load_plugins(FLAGS.t2t_usr_dir)
    # Imports TensorFlow, which takes seconds, only after the flags are checked.
    from t2t_vqem.decoding.options import parse_options
    from t2t_vqem.export.exporter import export_run
    from t2t_vqem.output_dir import OutputDir

    options = parse_options(FLAGS.decode_hparams, "--decode_hparams: ")
    with _quiet.harmless_lines_hidden():
        manifest = export_run(
            OutputDir(FLAGS.output_dir),
            FLAGS.export_dir,
            engine=FLAGS.format,
            quantize=FLAGS.quantize,
            checkpoint=FLAGS.checkpoint,
            options=options,
            rescore_dir=FLAGS.rescore_dir,
            data_dir=FLAGS.data_dir,
            verify=FLAGS.verify,
            web_models=FLAGS.web_models,
        )
    found = manifest.about.get("verification")
    print(f"{FLAGS.export_dir}: {'verified on dev' if found else 'not verified'}")
    for figures in (found, manifest.about.get("test")):
        for name, value in (figures or {}).items():
            print(f"  {name}: {value['value'] if isinstance(value, dict) else value}")


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv)


if __name__ == "__main__":
    entry_point()
