"""The Python API: load a trained model and use it, make data, train.

Imports here are those of `runtime`, so that an export is loaded with the packages that
requirements-runtime.txt lists. Functions for runs import what they need.

Each function does what a command does: `load` what t2t-decoder needs, `generate` what t2t-datagen
does, `train` what t2t-trainer does. All names are importable from `t2t_vqem`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from t2t_vqem import registry
from t2t_vqem.capabilities import ImageModel, LatentTextModel, TranslationModel, offers
from t2t_vqem.constants import NotExportableError, UsageError
from t2t_vqem.export import cached
from t2t_vqem.export.cached import AUTO, LITERT, TENSORFLOW
from t2t_vqem.files import check_local
from t2t_vqem.runtime import ImageRuntime, TextRuntime
from t2t_vqem.runtime import load as load_export
from t2t_vqem.runtime.manifest import MANIFEST
from t2t_vqem.runtime.results import Hypothesis

if TYPE_CHECKING:
    from t2t_vqem.decoding.options import DecodeOptions
    from t2t_vqem.inference.images import ImageDecoder
    from t2t_vqem.inference.translate import Translator as RunTranslator
    from t2t_vqem.output_dir import OutputDir
    from t2t_vqem.problem import Dataset
    from t2t_vqem.training.trainer import Outcome

_MOST_KEPT = 4  # compiled searches in memory, one for each combination of options and seed


def load(
    folder: str | os.PathLike[str],
    *,
    checkpoint: str | None = None,
    rescore_dir: str | os.PathLike[str] | None = None,
    engine: str = AUTO,
    int8: bool | None = None,
    threads: int | None = None,
    t2t_usr_dir: str | os.PathLike[str] | None = None,
) -> Translator | ImageCodec:
    """Loads a trained model.

    Args:
        folder: output directory of t2t-trainer, or a folder that t2t-exporter wrote for LiteRT. An
            export needs no TensorFlow.
        checkpoint: for a run: "best", "latest", "averaged" or a path. None: the best, or the latest
            if no evaluation has chosen a best one.
        rescore_dir: for a run of a latent model: run of the teacher that chooses among candidates.
        engine: for a run: what computes. "litert": an export of the run, which is made at first use
            and stored in the run; "tensorflow"; "auto": for text LiteRT if there is no GPU or TPU,
            and otherwise TensorFlow.
        int8: for LiteRT: whether weights have 8 bits, which is several times as fast. None: as the
            export has them, for a run float32.
        threads: for LiteRT: number of threads of an operation. None: chosen by the size of the
            model.
        t2t_usr_dir: for a run: folder of a plug-in to import first. A run that was trained with a
            plug-in needs it, unless you trained the run here.

    Returns:
        A `Translator` for a model of text, an `ImageCodec` for a model of images. Both are context
        managers that free the model on exit.

    Raises:
        UsageError: the folder holds neither a run nor an export, or the model cannot be loaded.
    """
    _check_local(folder=folder)
    path = os.path.abspath(os.path.expanduser(os.fspath(folder)))
    if engine not in (AUTO, LITERT, TENSORFLOW):
        raise UsageError(registry.unknown_name("engine", engine, [AUTO, LITERT, TENSORFLOW]))
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    if os.path.exists(os.path.join(path, MANIFEST)):
        if checkpoint or rescore_dir or t2t_usr_dir or engine == TENSORFLOW:
            raise UsageError(
                f"{path} is an export for LiteRT, in which checkpoint and rescorer are fixed and "
                "which needs no plug-in: omit checkpoint, rescore_dir, engine and t2t_usr_dir, or "
                "load the run"
            )
        return _wrapped(_checked_precision(load_export(path, threads=threads), path, int8))
    registry.load_plugins(t2t_usr_dir and os.fspath(t2t_usr_dir))
    return _load_run(
        path,
        engine,
        checkpoint=checkpoint,
        rescore_dir=rescore_dir and os.path.expanduser(os.fspath(rescore_dir)),
        int8=bool(int8),
        threads=threads,
    )


def _wrapped(model: TextRuntime | ImageRuntime) -> Translator | ImageCodec:
    return ImageCodec(model) if isinstance(model, ImageRuntime) else Translator(_TextExport(model))


def _checked_precision(
    model: TextRuntime | ImageRuntime, path: str, int8: bool | None
) -> TextRuntime | ImageRuntime:
    found = model.manifest.quantize
    if int8 is not None and int8 != (found == "int8"):
        raise UsageError(
            f"int8={int8}, but {path} was exported with --quantize={found}: omit int8, or export "
            f"the run again with --quantize={'int8' if int8 else 'none'}"
        )
    return model


def _load_run(
    path: str,
    engine: str,
    *,
    checkpoint: str | None,
    rescore_dir: str | None,
    int8: bool,
    threads: int | None,
) -> Translator | ImageCodec:
    from t2t_vqem.inference.run_problem import problem_of_run

    problem = problem_of_run(path)
    images = problem.needs_a(ImageModel)
    if not images and not problem.needs_a(TranslationModel):
        raise UsageError(
            f"{path} is a run of the problem {problem.name!r}: expected one that needs a model "
            f"that {TranslationModel.offers}, or a model that {ImageModel.offers}"
        )
    if images and rescore_dir:
        raise UsageError(
            f"rescore_dir={rescore_dir} is only for translation, and {path} is a model of images: "
            "omit it"
        )
    settings = {"checkpoint": checkpoint, "quantize": "int8" if int8 else "none"}
    if engine == LITERT or (not images and cached.choose_engine(engine) == LITERT):
        try:
            if images:
                return _wrapped(cached.load_cached(path, graph={}, threads=threads, **settings))
            return Translator(_ExportedRun(path, rescore_dir, threads=threads, **settings))
        except NotExportableError:
            if engine == LITERT or int8:
                raise
    if int8 or threads is not None:
        raise UsageError(
            f"int8={int8} and threads={threads} are only for LiteRT, and TensorFlow would compute "
            f"for the run in {path}: omit them, or set engine={LITERT!r}"
        )
    from t2t_vqem.output_dir import OutputDir

    run = OutputDir(path)
    if not images:
        return Translator(_TextRun(run, checkpoint, rescore_dir))
    from t2t_vqem.inference.images import ImageDecoder

    model = run.build_model()
    run.restore_for_inference(model, checkpoint)
    return ImageCodec(ImageDecoder(model, image_shape=run.problem().image_shape))


def _options(
    latent: bool, temperature: float | None, top_k: int | None, others: dict[str, Any]
) -> DecodeOptions:
    """Returns the options of a call, where None stands for the default."""
    from t2t_vqem.decoding.options import completed

    options = {**others, "sampling_temperature": temperature, "sampling_top_k": top_k}
    return completed(latent, **{k: value for k, value in options.items() if value is not None})


class _Recent:
    """Keeps the values that were used last, for several threads."""

    def __init__(self, make: Callable[..., Any]):
        self._make = make
        self._kept: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def get(self, *key: Any) -> Any:
        """Returns make(*key), or what it returned before."""
        with self._lock:
            found = self._kept.pop(key, None) or self._make(*key)
            self._kept[key] = found  # last in the order: the most recently used
            if len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            return found

    def clear(self) -> None:
        """Forgets all values."""
        self._kept.clear()


class _TextExport:
    """Translates with an export, whose graph is fixed."""

    def __init__(self, runtime: TextRuntime):
        self._runtime = runtime
        self.has_latents = runtime.has_latents
        self.close = runtime.close

    def translate(
        self,
        texts: Iterable[str],
        *,
        beam_size: int | None,
        num_candidates: int | None,
        **options: Any,
    ) -> Iterator[Hypothesis]:
        fixed = self._runtime.manifest.decoding
        for name, value in (("beam_size", beam_size), ("num_candidates", num_candidates)):
            if value is not None and value != fixed[name]:
                raise UsageError(
                    f"{name} is {value}, but the export was made with {fixed[name]}: export the "
                    f"run again with --decode_hparams={name}={value}, or load the run"
                )
        return self._runtime.translate(texts, **options)


class _ExportedRun:
    """Translates with exports of a run, one for each graph. The options can differ from call to
    call.
    """

    def __init__(self, path: str, rescore_dir: str | None, **settings: Any):
        self._path, self._rescore_dir, self._settings = path, rescore_dir, settings
        self._models = _Recent(self._load)
        self.has_latents = self._model().has_latents  # the usual graph, loaded in advance
        if rescore_dir and not self.has_latents:
            raise UsageError(
                f"rescore_dir={rescore_dir} is only for models with latents, and {path} has none: "
                "omit it"
            )

    def _model(self, **options: Any) -> TextRuntime:
        graph = cached.graph_of(**options)
        chooses = max(graph["num_best"], graph["num_candidates"]) > 1
        return self._models.get(tuple(graph.items()), self._rescore_dir if chooses else None)

    def _load(self, graph: tuple[tuple[str, Any], ...], rescore_dir: str | None) -> TextRuntime:
        return cached.load_cached(
            self._path, graph=dict(graph), rescore_dir=rescore_dir, **self._settings
        )

    def translate(
        self,
        texts: Iterable[str],
        *,
        seed: int,
        progress: Callable[[int], None] | None,
        temperature: float | None,
        top_k: int | None,
        **options: Any,
    ) -> Iterator[Hypothesis]:
        wanted = _options(self.has_latents, temperature, top_k, options)
        given = {k: v for k, v in options.items() if k in cached.GRAPH and v is not None}
        model = self._model(**given, sampling_temperature=wanted.sampling_temperature)
        return model.translate(
            texts,
            num_best=wanted.num_best,
            alpha=wanted.alpha,
            extra_length=wanted.extra_length,
            temperature=wanted.sampling_temperature,
            top_k=wanted.sampling_top_k,
            seed=seed,
            progress=progress,
        )

    def close(self) -> None:
        self._models.clear()


class _TextRun:
    """Translates with a run, in TensorFlow. The options can differ from call to call."""

    def __init__(self, run: OutputDir, checkpoint: str | None, rescore_dir: str | None):
        from t2t_vqem.export.loading import load_rescorer

        self._vocabulary = run.vocabulary()
        self._max_length = run.hparams().max_length
        self.has_latents = offers(run.hparams().model, LatentTextModel)
        self._model = run.build_model()
        run.restore_for_inference(self._model, checkpoint)
        self._rescorer = rescore_dir and load_rescorer(rescore_dir, self._vocabulary).model
        self._translators = _Recent(self._make)

    def translate(
        self,
        texts: Iterable[str],
        *,
        seed: int,
        progress: Callable[[int], None] | None,
        temperature: float | None,
        top_k: int | None,
        **options: Any,
    ) -> Iterator[Hypothesis]:
        wanted = _options(self.has_latents, temperature, top_k, options)
        translator = self._translators.get(wanted, seed)
        return translator.translate(texts, progress=progress)

    def _make(self, options: DecodeOptions, seed: int) -> RunTranslator:
        from t2t_vqem.inference.translate import Translator as RunTranslator

        return RunTranslator(
            self._model,
            self._vocabulary,
            options,
            max_length=self._max_length,
            seed=seed,
            rescorer=self._rescorer,
        )

    def close(self) -> None:
        self._translators.clear()
        self._model = self._rescorer = None


class _Loaded:
    """Holds a model until it is closed."""

    _backend: Any

    def __enter__(self):
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model. Calling it again does nothing."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _open(self) -> Any:
        if self._backend is None:
            raise UsageError("the model was closed: load it again")
        return self._backend


class Translator(_Loaded):
    """A model that translates. `load` makes it.

    Several threads can use it at the same time.
    """

    def __init__(self, backend: _TextExport | _ExportedRun | _TextRun):
        """Takes the export or run that translates."""
        self._backend = backend

    @property
    def has_latents(self) -> bool:
        """Whether the model translates with discrete latents."""
        return self._open().has_latents

    @overload
    def translate(
        self, texts: Iterable[str], *, return_details: Literal[False] = False, **options: Any
    ) -> list[str]: ...

    @overload
    def translate(
        self, texts: Iterable[str], *, return_details: Literal[True], **options: Any
    ) -> list[Hypothesis]: ...

    def translate(
        self,
        texts: Iterable[str],
        *,
        return_details: bool = False,
        beam_size: int | None = None,
        num_best: int | None = None,
        alpha: float | None = None,
        extra_length: int | None = None,
        num_candidates: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[str] | list[Hypothesis]:
        """Translates lines of text.

        None stands for the value that the export was made with, or for the default below. Options
        that change the graph (beam_size, num_candidates) are fixed in an export.

        Args:
            texts: one line each. A blank line gives an empty translation.
            return_details: return a `Hypothesis` for each text: text, score in nats, latents, and
                with num_best the other hypotheses.
            beam_size: number of hypotheses of beam search; default 1, greedy search.
            num_best: number of hypotheses to return, the best ones; default 1.
            alpha: exponent of the length penalty; default 0.6.
            extra_length: a translation has at most this many tokens more than its source; default
                50.
            num_candidates: for a latent model: number of translations to choose from; default 1.
            temperature: draw from softmax(logits / temperature) instead of searching; default 0.
            top_k: draw only among the k most probable tokens; default 0, all.
            seed: of the draws. The same seed, text and position in `texts` give the same
                translation.
            progress: called with the number of texts that were finished.

        Returns:
            A translation for each text, in their order.

        Raises:
            UsageError: an option is out of range, or the export was not made for it.
        """
        if isinstance(texts, str):
            raise UsageError("texts is one string, expected several: write translate([text])[0]")
        if (num_best or 1) > 1 and not return_details:
            raise UsageError(
                f"num_best={num_best} needs return_details=True: the other hypotheses are in "
                "`others` of each result"
            )
        found = self._open().translate(
            texts,
            beam_size=beam_size,
            num_best=num_best,
            alpha=alpha,
            extra_length=extra_length,
            num_candidates=num_candidates,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            progress=progress,
        )
        return list(found) if return_details else [hypothesis.text for hypothesis in found]


class ImageCodec(_Loaded):
    """A model of images with discrete codes. `load` makes it.

    Shapes: N images, H height, W width, ch channels, L latents of an image, C codebooks.
    """

    def __init__(self, backend: ImageRuntime | ImageDecoder):
        """Takes the export or decoder that computes."""
        self._backend = backend

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Returns the codes of images: uint8 [N, H, W, ch] -> int32 [N, L, C]."""
        return self._open().encode(images)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the images of codes: int32 [N, L, C] -> uint8 [N, H, W, ch]."""
        return self._open().decode(codes)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Returns `decode(encode(images))`."""
        return self._open().reconstruct(images)

    def sample(
        self, num_images: int, *, temperature: float = 1.0, top_k: int = 0, seed: int = 0
    ) -> np.ndarray:
        """Draws new images.

        Args:
            num_images: N. Image i depends on the seed and on i, not on N.
            temperature: above 0. 1 draws from the prior itself, lower values give less diversity.
            top_k: draw only among the k most probable codes; 0: all.
            seed: seed of the draws.

        Returns:
            uint8 [N, H, W, ch].
        """
        backend = self._open()
        return backend.decode(
            backend.sample(num_images, temperature=temperature, top_k=top_k, seed=seed)
        )


def generate(
    problem: str,
    data_dir: str | os.PathLike[str],
    *,
    problem_params: Mapping[str, Any] | str = "",
    t2t_usr_dir: str | None = None,
    num_workers: int | None = None,
    **sources: str | None,
) -> Dataset:
    """Makes the data of a problem, unless it exists already, as t2t-datagen does.

    Args:
        problem: registered name.
        data_dir: folder for the data of all problems.
        problem_params: settings of the problem, by name.
        t2t_usr_dir: folder of a plug-in to import first.
        num_workers: number of processes; None: one for each core. It does not change the data.
        **sources: the source of the data, if the problem does not generate it: source_dir,
            tfds_dir, teacher_dir, checkpoint.

    Returns:
        The data set.

    Raises:
        UsageError: an unknown name or setting, or an unusable source.
    """
    from t2t_vqem.problem import make_problem

    registry.load_plugins(t2t_usr_dir)
    params = _as_text(problem_params)
    _check_local(data_dir=data_dir, problem_params=params, **sources)
    folder = os.path.expanduser(os.fspath(data_dir))
    made = make_problem(problem, folder, problem_params=params)
    return made.generate(folder, num_workers=num_workers, **sources)


def train(
    output_dir: str | os.PathLike[str],
    *,
    hparams: Mapping[str, Any] | str = "",
    problem_params: Mapping[str, Any] | str = "",
    **request: Any,
) -> Outcome:
    """Trains a model, or continues the run in the output directory, as t2t-trainer does.

        t2t.train("runs/digits", problem="image_digits", hparams_set="vqvae_digits",
                  hparams={"num_codes": 32}, data_dir="data", train_steps=2000)

    Args:
        output_dir: folder of the run.
        hparams: hyperparameters that differ from the set, by name.
        problem_params: settings of the problem, by name.
        **request: the other flags of t2t-trainer, by name without dashes:
            `training.trainer.Request` lists them.

    Returns:
        The last step, and whether a signal stopped the run before its end.

    Raises:
        UsageError: the request cannot be carried out, or numbers in training became non-finite.
    """
    from t2t_vqem.training import trainer

    unknown = sorted(request.keys() - trainer.Request.__dataclass_fields__.keys())
    if unknown:
        raise UsageError(
            registry.unknown_name("argument", unknown[0], [*trainer.Request.__dataclass_fields__])
        )
    _check_local(output_dir=output_dir, **request)
    return trainer.run(
        trainer.Request(
            output_dir=os.fspath(output_dir),
            hparams=_as_text(hparams),
            problem_params=_as_text(problem_params),
            **request,
        )
    )


def _check_local(**values: Any) -> None:
    """Checks that no argument is a path of a bucket; see `files.check_local`."""
    for name, value in values.items():
        if isinstance(value, (str, os.PathLike)):
            check_local(os.fspath(value), name)


def _as_text(overrides: Mapping[str, Any] | str) -> str:
    """Returns settings in the syntax of the commands: name=value,name=value."""
    if isinstance(overrides, str):
        return overrides
    return ",".join(f"{name}={value!r}" for name, value in overrides.items())
