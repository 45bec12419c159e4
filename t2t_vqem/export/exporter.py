"""Exports a run: builds its graphs, converts them, and writes a folder that `runtime` loads."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import platform
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

import t2t_vqem
from t2t_vqem.capabilities import ImageModel, LatentTextModel, TranslationModel
from t2t_vqem.constants import (
    CTRANSLATE2,
    DEV,
    LITERT,
    MAX_EXTRA_LENGTH,
    SAVED_MODEL,
    SPLITS,
    TEST,
    WEB,
    UsageError,
)
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export import ctranslate2_model, litert, saved_model, web
from t2t_vqem.export.card import write_card
from t2t_vqem.export.graphs import Graphs, image_graphs, text_graphs
from t2t_vqem.export.litert import NONE
from t2t_vqem.export.loading import LoadedRun, load_rescorer, load_run
from t2t_vqem.export.phrases import count_phrases, most_frequent, training_pairs
from t2t_vqem.export.verification import (
    measure_images,
    measure_text,
    verify_images,
    verify_text,
)
from t2t_vqem.export.writing import written_aside
from t2t_vqem.fields import default_of, to_json
from t2t_vqem.files import write_file, write_json
from t2t_vqem.metrics.bleu import choose_tokenizer
from t2t_vqem.models.transformer import Transformer
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.problem import Dataset
from t2t_vqem.runtime import ImageRuntime, TextRuntime
from t2t_vqem.runtime import text as runtime_text
from t2t_vqem.runtime.interpreters import Backend, Interpreters
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
    phrases: bool = True,
    web_models: Sequence[str] = (),
) -> Manifest:
    """Exports a run, and compares the export with the run on the dev split.

    Args:
        run: the run.
        folder: folder to write; an existing export is replaced.
        engine: format of the export.
        quantize: "none" or "int8".
        checkpoint: as in `OutputDir.find_checkpoint`.
        options: decoding options of a text model; None: greedy search.
        rescore_dir: run that chooses among the candidates of a latent model.
        data_dir: folder of the run's data; None: the folder that the run was trained with.
        verify: whether to compare the export with the run.
        phrases: whether to write the phrases of each code of a latent model.
        web_models: for the format web, other exports of this format, whose models the page offers
            too.

    Returns:
        The manifest of the export.

    Raises:
        UsageError: the run cannot be exported in this format, or the export differs from the run.
    """
    options = options or DecodeOptions()
    loaded = load_run(run, checkpoint)
    rescorer = None
    if rescore_dir:
        rescorer = load_rescorer(rescore_dir, loaded.vocabulary, options.num_candidates)
    _check_format(loaded, engine, quantize)
    name = os.path.basename(os.path.abspath(folder))
    if web_models and engine != WEB:
        raise UsageError(f"--web_models is only for --format={WEB}, got --format={engine}")
    others = web.models_of(web_models, name)
    graphs = converted = make_graphs(loaded, options, rescorer)
    if engine in (LITERT, WEB):
        graphs.trace()  # the graphs to compare the export with
        litert.prepare(loaded.model, quantize)
        converted = make_graphs(loaded, options, rescorer)
    dataset = _open_data(run, data_dir) if verify or phrases else None
    with written_aside(folder) as unfinished:
        _logger.info("writing the model for %s", engine)
        manifest = describe(
            loaded,
            options,
            engine=engine,
            quantize=quantize,
            files={},
            about=about(loaded, rescorer, dataset),
        )
        home = web.model_folder(unfinished, name) if engine == WEB else unfinished
        os.makedirs(home, exist_ok=True)
        _write_model(loaded, converted, manifest, home)
        if dataset is not None and phrases and _has_phrases(manifest):
            _write_phrases(loaded, converted, manifest, home, dataset)
        sizes = _sizes(unfinished)
        hashes = {path: file_hash(os.path.join(unfinished, path)) for path in sizes}
        manifest = dataclasses.replace(manifest, files=hashes)
        if verify:
            found = _verified(loaded, manifest, graphs, home, dataset)
            manifest = dataclasses.replace(manifest, about={**manifest.about, **found})
        if engine == WEB:
            web.write_page(unfinished, name, manifest, loaded.vocabulary, others=others)
            sizes = {"the folder": sum(_sizes(unfinished).values())}
        card = write_card(manifest, name, sizes)
        write_file(os.path.join(unfinished, CARD), card.encode())
        write_json(os.path.join(unfinished, MANIFEST), manifest.to_json())
    return manifest


def _check_format(loaded: LoadedRun, engine: str, quantize: str) -> None:
    """Checks that the model can be exported in this format."""
    if engine == SAVED_MODEL and quantize != NONE:
        raise UsageError(
            f"--quantize={quantize} with --format={SAVED_MODEL}: TensorFlow computes in float32. "
            f"For 8-bit weights use --format={LITERT} or {CTRANSLATE2}"
        )
    if engine == CTRANSLATE2 and not isinstance(loaded.model, Transformer):
        raise UsageError(
            f"--format={CTRANSLATE2} is only for runs of 'transformer', and the one in "
            f"{loaded.run.path} is of {loaded.model.name!r}: expected --format={LITERT} or "
            f"{SAVED_MODEL}"
        )
    if engine == WEB:
        web.check_browser_files()


def _write_model(loaded: LoadedRun, graphs: Graphs, manifest: Manifest, folder: str) -> None:
    """Writes the files of the model, and its vocabulary."""
    if loaded.vocabulary is not None:
        write_file(os.path.join(folder, VOCABULARY), loaded.vocabulary.model)
    if manifest.engine == LITERT:
        write_file(os.path.join(folder, MODEL), litert.convert(graphs, manifest.quantize))
    elif manifest.engine == WEB:
        static = web.static_graphs(graphs, manifest)
        write_file(os.path.join(folder, MODEL), litert.convert(static, manifest.quantize))
    elif manifest.engine == SAVED_MODEL:
        saved_model.write(graphs, loaded.vocabulary, manifest, folder)
    else:
        positions = manifest.max_length + manifest.max_extra_length
        ctranslate2_model.write(
            loaded.model, loaded.vocabulary, positions, folder, manifest.quantize
        )


def _sizes(folder: str) -> dict[str, int]:
    """Returns the size in bytes of each file in a folder, by its path relative to the folder."""
    paths = sorted(
        os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names
    )
    return {os.path.relpath(path, folder): os.path.getsize(path) for path in paths}


def _has_phrases(manifest: Manifest) -> bool:
    return manifest.engine in (LITERT, WEB) and manifest.kind == TEXT and manifest.num_codes > 0


def _write_phrases(
    loaded: LoadedRun, graphs: Graphs, manifest: Manifest, folder: str, dataset: Dataset
) -> None:
    """Writes the phrases of each code of a latent model in the training text."""
    _logger.info("counting the phrases of codes in the training text")
    with tempfile.TemporaryDirectory() as other:
        path = os.path.join(folder, MODEL)
        if manifest.engine == WEB:  # its model cannot score
            path = os.path.join(other, MODEL)
            score = {runtime_text.SCORE: graphs.functions[runtime_text.SCORE]}
            scoring = Graphs(score, graphs.variables_used)
            write_file(path, litert.convert(scoring, manifest.quantize))
        model = TextRuntime(manifest, loaded.vocabulary, Interpreters(path))
        counted = count_phrases(model, training_pairs(dataset))
        write_json(os.path.join(folder, PHRASES), most_frequent(counted.phrases))


def _open_data(run: OutputDir, data_dir: Any) -> Dataset | None:
    """Returns the data of a run; None if it does not exist any more."""
    try:
        return run.problem().open(data_dir or run.settings().data_dir)
    except UsageError as error:
        _logger.warning("the export is not verified, and its codes have no phrases: %s", error)
        return None


def _verified(
    loaded: LoadedRun, manifest: Manifest, graphs: Graphs, folder: str, dataset: Dataset | None
) -> dict[str, Any]:
    """Compares an export with TensorFlow on dev, and measures it on test, if there is data."""
    if dataset is None or not _num_examples(dataset, DEV):
        return {}
    _logger.info("comparing the export with the run on dev")
    exact = manifest.quantize == NONE and manifest.engine != CTRANSLATE2
    exported = _served(loaded, manifest, folder)
    if manifest.kind == IMAGES:
        reference = ImageRuntime(manifest, graphs)
        found = {"verification": verify_images(exported, reference, dataset, exact=exact)}
        measure = functools.partial(measure_images, exported, dataset)
    else:
        reference = TextRuntime(manifest, loaded.vocabulary, graphs)
        name, language = loaded.run.hparams().bleu_tokenizer, manifest.languages[1]
        tokenizer = choose_tokenizer(name, language)
        verified = verify_text(exported, reference, dataset, exact=exact, tokenizer=tokenizer)
        found = {"verification": verified}
        measure = functools.partial(measure_text, exported, dataset, tokenizer=tokenizer)
    if _num_examples(dataset, TEST):
        _logger.info("measuring the export on test")
        found["test"] = measure(split=TEST)
    return found


def _num_examples(dataset: Dataset, split: str) -> int:
    return dataset.manifest["splits"].get(split, {}).get("num_examples", 0)


def _served(loaded: LoadedRun, manifest: Manifest, folder: str) -> Any:
    """Returns the model in an export, as whoever serves it uses it."""
    if manifest.engine == CTRANSLATE2:
        return ctranslate2_model.Served(manifest, loaded.vocabulary, folder)
    if manifest.kind == IMAGES:
        saved = manifest.engine == SAVED_MODEL
        used = saved_model.ServedIds(folder) if saved else _interpreters(manifest, folder)
        return ImageRuntime(manifest, used)
    if manifest.engine == SAVED_MODEL:
        return saved_model.Served(folder)
    return TextRuntime(manifest, loaded.vocabulary, _interpreters(manifest, folder))


def _interpreters(manifest: Manifest, folder: str) -> Backend:
    path = os.path.join(folder, MODEL)
    return web.StaticInterpreters(path, manifest) if manifest.engine == WEB else Interpreters(path)


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
        f"a model that {ImageModel.offers}"
    )


def describe(
    loaded: LoadedRun, options: DecodeOptions, *, files: dict[str, str], **fields: Any
) -> Manifest:
    """Returns the manifest of an export.

    Args:
        loaded: the run.
        options: the decoding options of the graphs.
        files: name -> hash.
        **fields: other fields of the manifest.
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


def about(
    loaded: LoadedRun, rescorer: LoadedRun | None, dataset: Dataset | None = None
) -> dict[str, Any]:
    """Returns the origin of an export, as JSON.

    Args:
        loaded: the run.
        rescorer: the run that chooses among candidates.
        dataset: the data of the run, if it still exists.
    """
    settings = loaded.run.settings()
    hparams = settings.hparams
    changed = [
        field.name
        for field in dataclasses.fields(hparams)
        if getattr(hparams, field.name) != default_of(field)
    ]
    return {
        "problem": settings.problem,
        "problem_config": to_json(settings.problem_config),
        "data_source": settings.data_source,
        "examples": dataset and {s: _num_examples(dataset, s) for s in SPLITS},
        "seed": settings.seed,
        "hparams_set": settings.hparams_set,
        "hparams": {name: to_json(hparams)[name] for name in changed},
        "weights": loaded.weights(),
        "rescorer": rescorer and rescorer.weights(),
        "versions": {
            "python": platform.python_version(),
            "t2t_vqem": t2t_vqem.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
