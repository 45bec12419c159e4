"""t2t-decoder --codes_report: what each code of a model stands for."""

from __future__ import annotations

import logging

from absl import flags

from t2t_vqem.constants import TRAIN, UsageError

_MOST_IMAGES = 10_000
_USED = (
    *("codes_report", "output_dir", "checkpoint", "decode_split", "data_dir", "batch_size"),
    *("xla", "intra_op_threads", "t2t_usr_dir"),
)
_logger = logging.getLogger(__name__)


def run(values: flags.FlagValues, images: bool) -> None:
    """Writes the report that the flags of t2t-decoder ask for, of a run of images or of text."""
    for name in values:
        if values[name].present and name not in _USED:
            raise UsageError(
                f"--{name} has no effect on --codes_report, which translates and decodes nothing: "
                "omit one of them"
            )
    # These import TensorFlow, which takes seconds.
    from t2t_vqem.export import codes_report
    from t2t_vqem.models.bottleneck import QuantizedModel
    from t2t_vqem.output_dir import OutputDir

    run = OutputDir(values.output_dir)
    model = run.build_model()
    if not isinstance(model, QuantizedModel):
        raise UsageError(
            f"--codes_report: the run in {run.path} is of the model {model.name!r}, which has no "
            "codes. Expected a run of a latent model, such as transformer_nat or vqvae"
        )
    checkpoint = run.restore_for_inference(model, values.checkpoint)
    dataset = run.problem().open(values.data_dir or run.settings().data_dir)
    report = (_images if images else _text)(values, run, model, dataset)
    codes_report.write_report(values.codes_report, f"Codes of {checkpoint}", report)
    _logger.info("%s/%s shows %d codes", values.codes_report, codes_report.PAGE, len(report.codes))


def _text(values: flags.FlagValues, run, model, dataset):
    from t2t_vqem.export.codes_report import text_report
    from t2t_vqem.export.phrases import training_pairs
    from t2t_vqem.inference.scoring import make_scorer

    split = values.decode_split
    pairs = (
        list(zip(dataset.sources(split), dataset.references(split), strict=True))
        if split
        else training_pairs(dataset)
    )
    scorer = make_scorer(run, model, batch_tokens=values.batch_size)
    return text_report(scorer, model.quantizer.codebooks.numpy()[0], pairs)


def _images(values: flags.FlagValues, run, model, dataset):
    from t2t_vqem.export.codes_report import image_report
    from t2t_vqem.inference.images import DEFAULT_BATCH_SIZE, ImageDecoder

    images = dataset.images(values.decode_split or TRAIN, limit=_MOST_IMAGES)
    decoder = ImageDecoder(
        model,
        image_shape=run.problem().image_shape,
        batch_size=values.batch_size or DEFAULT_BATCH_SIZE,
        xla=values.xla,
    )
    return image_report(images, decoder.encode(images), model.quantizer.codebooks.numpy())
