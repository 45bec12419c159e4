"""Exports a run: builds its graphs, converts them, and writes a folder that `runtime` loads."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
from typing import Any

import keras
import tensorflow as tf

import t2t_vqem
from t2t_vqem.constants import MAX_EXTRA_LENGTH, UsageError
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export import litert
from t2t_vqem.export.graphs import Graphs, image_graphs, text_graphs
from t2t_vqem.export.loading import LoadedRun, load_rescorer, load_run
from t2t_vqem.export.writing import written_aside
from t2t_vqem.files import write_file, write_json
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime.manifest import (
    IMAGES,
    LITERT,
    MANIFEST,
    MODEL,
    TEXT,
    VOCABULARY,
    Manifest,
    file_hash,
)

_logger = logging.getLogger(__name__)


def export_litert(
    run: OutputDir,
    folder: str,
    *,
    quantize: str = litert.NONE,
    checkpoint: str | None = None,
    options: DecodeOptions | None = None,
    rescore_dir: str | None = None,
) -> Manifest:
    """Exports a run for LiteRT.

    Args:
        run: the run.
        folder: where to; an export that is there is replaced.
        quantize: "none" or "int8".
        checkpoint: as in `OutputDir.find_checkpoint`.
        options: how a text model is to search; None: greedily.
        rescore_dir: run that chooses among the candidates of a latent model.

    Returns:
        What was written.

    Raises:
        UsageError: the run cannot be exported so.
    """
    options = options or DecodeOptions()
    loaded = load_run(run, checkpoint)
    rescorer = None
    if rescore_dir:
        if options.num_candidates < 2:
            raise UsageError(
                f"--rescore_dir={rescore_dir} has nothing to choose from with num_candidates="
                f"{options.num_candidates}: add num_candidates=9, say, to --decode_hparams"
            )
        rescorer = load_rescorer(rescore_dir, loaded.vocabulary)
    graphs = make_graphs(loaded, options, rescorer)
    _logger.info("%s: converting", run.path)
    model = litert.convert(graphs, quantize)
    with written_aside(folder) as unfinished:
        write_file(os.path.join(unfinished, MODEL), model)
        if loaded.vocabulary is not None:
            write_file(os.path.join(unfinished, VOCABULARY), loaded.vocabulary.model)
        manifest = describe(
            loaded,
            options,
            engine=LITERT,
            quantize=quantize,
            files={
                name: file_hash(os.path.join(unfinished, name)) for name in os.listdir(unfinished)
            },
            about=about(loaded, rescorer),
        )
        write_json(os.path.join(unfinished, MANIFEST), manifest.to_json())
    return manifest


def make_graphs(
    loaded: LoadedRun, options: DecodeOptions, rescorer: LoadedRun | None = None
) -> Graphs:
    """Returns the functions of a run's model.

    Raises:
        UsageError: the model is neither of text nor of images with codes.
    """
    model = loaded.model
    if loaded.vocabulary is not None and hasattr(model, "infer"):
        return text_graphs(model, options, rescorer and rescorer.model)
    if hasattr(model, "sample_codes"):
        return image_graphs(model, loaded.run.problem().image_shape)
    raise UsageError(
        f"the model {model.name!r} of the run in {loaded.run.path} cannot be exported: expected "
        "one that translates (`infer`), or one of images with codes (`sample_codes`)"
    )


def describe(
    loaded: LoadedRun, options: DecodeOptions, *, files: dict[str, str], **fields: Any
) -> Manifest:
    """Returns the manifest of an export.

    Args:
        loaded: the run.
        options: what the graphs were made with.
        files: name -> hash.
        **fields: further ones of the manifest.
    """
    model, hparams, problem = loaded.model, loaded.model.hparams, loaded.run.problem()
    common = {"model": model.name, "files": files, **fields}
    if loaded.vocabulary is None:
        num_latents, num_codebooks = model.num_latents, hparams.num_codebooks
        return Manifest(
            kind=IMAGES,
            num_codes=hparams.num_codes,
            image_shape=problem.image_shape,
            code_shape=(num_latents, num_codebooks),
            **common,
        )
    latents = {}
    if hasattr(model, "decode_codes"):
        latents = {"num_codes": hparams.num_codes, "tokens_per_latent": model.ratio}
    return Manifest(
        kind=TEXT,
        decoding=dataclasses.asdict(options),
        languages=(problem.source_language, problem.target_language),
        max_length=hparams.max_length,
        max_extra_length=MAX_EXTRA_LENGTH,
        group_size=hparams.group_size,
        **latents,
        **common,
    )


def about(loaded: LoadedRun, rescorer: LoadedRun | None) -> dict[str, Any]:
    """Returns where an export comes from."""
    settings = loaded.run.settings()
    return {
        "problem": settings.problem,
        "hparams_set": settings.hparams_set,
        "weights": loaded.weights(),
        "rescorer": rescorer and rescorer.weights(),
        "versions": {
            "python": platform.python_version(),
            "t2t_vqem": t2t_vqem.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
