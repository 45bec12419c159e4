"""The translator of a run, computed by LiteRT or by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from t2t_vqem import registry
from t2t_vqem.constants import MAX_EXTRA_LENGTH, NotExportableError, UsageError
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export import cached
from t2t_vqem.export.graphs import check_exportable
from t2t_vqem.inference.translate import load_translator
from t2t_vqem.output_dir import OutputDir

Load = Callable[[OutputDir, str, DecodeOptions], Any]  # run, checkpoint -> its translator


def translator_of(
    run: OutputDir, options: DecodeOptions, *, engine: str, int8: bool, batch_tokens: int, xla: bool
) -> tuple[Load, dict[str, Any]]:
    """Returns a function that loads a translator, and what its translations depend on.

    Args:
        run: the run.
        options: the decoding options, without sampling and candidates.
        engine: "litert", "tensorflow" or "auto": LiteRT if there is no accelerator, `xla` is set
            and LiteRT can translate with the run.
        int8: whether LiteRT uses weights of 8 bits.
        batch_tokens: number of source tokens in a batch.
        xla: whether TensorFlow compiles with XLA.

    Raises:
        UsageError: LiteRT or 8 bits are asked for, and the other options exclude them.
    """
    settings: dict[str, Any] = {"batch_tokens": batch_tokens}
    if _takes_litert(run, options, engine, xla):
        precision = "int8" if int8 else "none"

        def load_litert(run: OutputDir, checkpoint: str, options: DecodeOptions) -> Any:
            graph = cached.graph_of(beam_size=options.beam_size, num_best=options.num_best)
            model = cached.load_cached(
                run.path, checkpoint=checkpoint, graph=graph, quantize=precision, **settings
            )
            inputs = {"alpha": options.alpha, "extra_length": options.extra_length}
            return cached.ExportedTranslator(model, {**inputs, "temperature": 0.0, "top_k": 0})

        return load_litert, {**settings, "engine": cached.LITERT, "precision": precision}
    if int8:
        raise UsageError(
            "int8 is only for LiteRT, and TensorFlow would translate: omit it, or set "
            f"engine={cached.LITERT}"
        )
    settings["xla"] = xla

    def load_tensorflow(run: OutputDir, checkpoint: str, options: DecodeOptions) -> Any:
        return load_translator(run, checkpoint, options, **settings)

    return load_tensorflow, {**settings, "engine": cached.TENSORFLOW}


def _takes_litert(run: OutputDir, options: DecodeOptions, engine: str, xla: bool) -> bool:
    if engine == cached.AUTO and not xla:
        return False
    if cached.choose_engine(engine) == cached.TENSORFLOW:
        return False
    try:
        check_exportable(registry.models.get(run.hparams().model))
        if options.extra_length > MAX_EXTRA_LENGTH:
            raise NotExportableError(
                f"extra_length is {options.extra_length}: LiteRT takes up to {MAX_EXTRA_LENGTH}"
            )
    except NotExportableError:
        if engine == cached.LITERT:
            raise
        return False
    return True
