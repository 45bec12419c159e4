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
from t2t_vqem.capabilities import ImageModel, LatentTextModel, TranslationModel
from t2t_vqem.constants import DEV, LITERT, MAX_EXTRA_LENGTH, UsageError
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export import litert
from t2t_vqem.export.card import write_card
from t2t_vqem.export.graphs import Graphs, image_graphs, text_graphs
from t2t_vqem.export.litert import NONE
from t2t_vqem.export.loading import LoadedRun, load_rescorer, load_run
from t2t_vqem.export.phrases import collect_phrases, training_pairs
from t2t_vqem.export.verification import verify_images, verify_text
from t2t_vqem.export.writing import written_aside
from t2t_vqem.files import write_file, write_json
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.problem import Dataset
from t2t_vqem.runtime import ImageRuntime, TextRuntime
from t2t_vqem.runtime.interpreters import Interpreters
from t2t_vqem.runtime.manifest import (
    CARD,
    IMAGES,
    MANIFEST,
    MODEL,
    PHRASES,
    TEXT,
    VOCABULARY,
    Manifest,
    file_hash,
)

_logger = logging.getLogger(__name__)


def export_run(
    run: OutputDir,
    folder: str,
    *,
    engine: str = LITERT,
    quantize: str = NONE,
    checkpoint: str | None = None,
    options: DecodeOptions | None = None,
    rescore_dir: str | None = None,
    data_dir: str | None = None,
    verify: bool = True,
) -> Manifest:
    """Exports a run, and compares the export with the run on the dev split.

    Args:
        run: the run.
        folder: where to; an export that is there is replaced.
        engine: what the export is for.
        quantize: "none" or "int8".
        checkpoint: as in `OutputDir.find_checkpoint`.
        options: how a text model is to search; None: greedily.
        rescore_dir: run that chooses among the candidates of a latent model.
        data_dir: where the data of the run are; None: where it was trained from.
        verify: whether to compare.

    Returns:
        What was written.

    Raises:
        UsageError: the run cannot be exported so, or the export does not do what the run does.
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
    graphs = converted = make_graphs(loaded, options, rescorer)
    if quantize == litert.INT8:
        graphs.trace()  # what the export is compared with
        litert.embeddings_in_int8(loaded.model)
        converted = make_graphs(loaded, options, rescorer)
    with written_aside(folder) as unfinished:
        _logger.info("writing the model for %s", engine)
        _WRITERS[engine](converted, unfinished, quantize)
        if loaded.vocabulary is not None:
            write_file(os.path.join(unfinished, VOCABULARY), loaded.vocabulary.model)
        paths = _files_in(unfinished)
        manifest = describe(
            loaded,
            options,
            engine=engine,
            quantize=quantize,
            files={name: file_hash(os.path.join(unfinished, name)) for name in paths},
            about=about(loaded, rescorer),
        )
        dataset = _open_data(run, data_dir) if verify or engine == LITERT else None
        if engine == LITERT and manifest.kind == TEXT and manifest.num_codes:
            manifest = _with_phrases(loaded, manifest, unfinished, dataset)
        if verify:
            found = _verified(loaded, manifest, graphs, unfinished, dataset)
            manifest = dataclasses.replace(
                manifest, about={**manifest.about, "verification": found}
            )
        sizes = {name: os.path.getsize(os.path.join(unfinished, name)) for name in paths}
        card = write_card(manifest, os.path.basename(os.path.abspath(folder)), sizes)
        write_file(os.path.join(unfinished, CARD), card.encode())
        write_json(os.path.join(unfinished, MANIFEST), manifest.to_json())
    return manifest


def _write_litert(graphs: Graphs, folder: str, quantize: str) -> None:
    write_file(os.path.join(folder, MODEL), litert.convert(graphs, quantize))


_WRITERS = {LITERT: _write_litert}


def _files_in(folder: str) -> list[str]:
    """Returns the paths of all files in a folder, relative to it."""
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    )


def _with_phrases(
    loaded: LoadedRun, manifest: Manifest, folder: str, dataset: Dataset | None
) -> Manifest:
    """Writes what each code stood for in the training text, where that is there."""
    if dataset is None:
        return manifest
    _logger.info("counting what codes stand for in the training text")
    model = TextRuntime(manifest, loaded.vocabulary, Interpreters(os.path.join(folder, MODEL)))
    path = os.path.join(folder, PHRASES)
    write_json(path, collect_phrases(model, training_pairs(dataset)))
    return dataclasses.replace(manifest, files={**manifest.files, PHRASES: file_hash(path)})


def _open_data(run: OutputDir, data_dir: Any) -> Dataset | None:
    """Returns the data of a run, None where they are not there any more."""
    try:
        return run.problem().open(data_dir or run.settings().data_dir)
    except UsageError as error:
        _logger.warning("the export is neither verified nor do codes get phrases: %s", error)
        return None


def _verified(
    loaded: LoadedRun, manifest: Manifest, graphs: Graphs, folder: str, dataset: Dataset | None
) -> dict[str, Any] | None:
    """Compares an export with TensorFlow; None where there are no data to do so."""
    if dataset is None or not dataset.split(DEV)["num_examples"]:
        return None
    _logger.info("comparing the export with the run on dev")
    exact = manifest.quantize == NONE
    backend = Interpreters(os.path.join(folder, MODEL))
    if manifest.kind == IMAGES:
        models = (ImageRuntime(manifest, backend), ImageRuntime(manifest, graphs))
        return verify_images(*models, dataset, exact=exact)
    models = (TextRuntime(manifest, loaded.vocabulary, used) for used in (backend, graphs))
    return verify_text(*models, dataset, exact=exact)


def make_graphs(
    loaded: LoadedRun, options: DecodeOptions, rescorer: LoadedRun | None = None
) -> Graphs:
    """Returns the functions of a run's model.

    Raises:
        UsageError: the model is neither of text nor of images with codes.
    """
    model, problem = loaded.model, loaded.run.problem()
    if problem.needs_a(TranslationModel):
        return text_graphs(model, options, rescorer and rescorer.model)
    if problem.needs_a(ImageModel):
        return image_graphs(model, problem.image_shape)
    raise UsageError(
        f"the run in {loaded.run.path}, of the problem {problem.name!r} and the model "
        f"{model.name!r}, cannot be exported: expected a model that {TranslationModel.offers}, or "
        f"one that {ImageModel.offers}"
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
    if isinstance(model, LatentTextModel):
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
