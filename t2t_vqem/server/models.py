"""Exported models for the endpoints: their descriptions, and the computations for requests."""

from __future__ import annotations

import abc
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from t2t_vqem import runtime
from t2t_vqem.constants import UsageError
from t2t_vqem.data.lines import one_line
from t2t_vqem.runtime import Hypothesis, ImageRuntime, PairScore, TextRuntime, cards
from t2t_vqem.runtime.interpreters import num_cores
from t2t_vqem.runtime.manifest import PHRASES
from t2t_vqem.server.body import check_codes
from t2t_vqem.server.limits import Limits, RequestError
from t2t_vqem.server.metrics import Metrics
from t2t_vqem.server.pictures import encode_png, psnr, read_picture
from t2t_vqem.server.queue import BatchQueue

_WARM_TEXT = "A first text."
_BYTE_END = "\ufffd"  # the decoding of a character whose last bytes are missing
_TRANSLATE, _DECODE_CODES, _SCORE, _SAMPLE, _ENCODE, _DECODE = range(6)


def load_services(
    folders: Sequence[str],
    limits: Limits,
    metrics: Metrics,
    *,
    threads: int | None = None,
    interpreters: int | None = None,
) -> list[Service]:
    """Loads exported folders; the name of a model is that of its folder.

    Args:
        folders: folders that `t2t-exporter --format=litert` wrote.
        limits: the limits of requests.
        metrics: the metrics that count batches and waiting times.
        threads: number of threads of an operation; None: chosen by the size of the model.
        interpreters: number of interpreters of each model, each of which computes one batch at a
            time; None: the number of cores.

    Raises:
        UsageError: a folder cannot be loaded, or two have the same name.
    """
    services: dict[str, Service] = {}
    for folder in folders:
        name = os.path.basename(os.path.abspath(os.path.expanduser(folder)))
        if name in services:
            raise UsageError(
                f"two folders have the name {name!r}, which is also the name of the model: rename "
                "one of them"
            )
        services[name] = _load_service(name, folder, limits, metrics, threads, interpreters)
    return list(services.values())


def _load_service(
    name: str,
    folder: str,
    limits: Limits,
    metrics: Metrics,
    threads: int | None,
    interpreters: int | None,
) -> Service:
    count = interpreters or num_cores()
    # Each interpreter loads the file separately; the queue chooses the interpreter of a batch.
    runtimes = [runtime.load(folder, threads=threads, interpreters=1) for _ in range(count)]
    kind = ImageService if isinstance(runtimes[0], ImageRuntime) else TextService
    phrases = None
    if PHRASES in runtimes[0].manifest.files:
        with open(os.path.join(os.path.expanduser(folder), PHRASES), encoding="utf-8") as file:
            phrases = json.load(file)
    return kind(name, runtimes, limits, metrics, phrases=phrases)


class Search(NamedTuple):
    """The search options for translations; None stands for the value of the export."""

    alpha: float | None = None
    extra_length: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    seed: int = 0


class Sampling(NamedTuple):
    """The options for drawing images."""

    seed: int
    temperature: float
    top_k: int


class Service(abc.ABC):
    """A model with its queue; `_compute` of a subclass runs in the threads of the queue.

    Attributes:
        name: name of the model in requests.
        kind: "text" or "images".
        manifest: the manifest of the export.
        phrases: the most frequent phrases of each code, with their counts; None if the export has
            none.
    """

    def __init__(
        self,
        name: str,
        runtimes: Sequence[Any],
        limits: Limits,
        metrics: Metrics,
        *,
        phrases: list[list[tuple[str, int]]] | None = None,
    ):
        """Starts the queue, and runs each interpreter once to warm it up.

        Args:
            name: see above.
            runtimes: the loaded export, once for each thread.
            limits: the limits of requests.
            metrics: the metrics that count batches and waiting times.
            phrases: see above.
        """
        self.name = name
        self.manifest = runtimes[0].manifest
        self.kind = self.manifest.kind
        self.phrases = phrases
        self._runtimes = runtimes
        self._limits = limits
        self._queue = BatchQueue(
            self._compute,
            workers=len(runtimes),
            batch_rows=limits.batch_rows,
            batch_length=limits.batch_tokens,
            queue_rows=limits.queue_rows,
            sizes=lambda size: metrics.batch_rows.observe(size, name),
            waits=lambda seconds: metrics.wait_seconds.observe(seconds, name),
        )
        metrics.queue_rows.watch(lambda: len(self._queue), name)
        for worker in range(len(runtimes)):
            self._warm(worker)

    def close(self) -> None:
        """Stops the threads."""
        self._queue.close()

    @property
    @abc.abstractmethod
    def card(self) -> dict[str, Any]:
        """Description of the model and its capabilities, as JSON."""

    @abc.abstractmethod
    def _warm(self, worker: int) -> None:
        """Runs an interpreter once."""

    @abc.abstractmethod
    def _compute(self, worker: int, kind: tuple[Any, ...], rows: list[Any]) -> list[Any]:
        """Computes rows of one kind with one interpreter; the result of a row can be an error."""


class TextService(Service):
    """A model that translates."""

    _runtimes: Sequence[TextRuntime]

    @property
    def card(self) -> dict[str, Any]:
        """See `Service`."""
        return cards.text_card(
            self.name,
            self.manifest,
            can_sample=self._runtimes[0].can_sample,
            phrases=self.phrases is not None,
        )

    async def translate(
        self, texts: list[str], search: Search, codes: list[list[int]] | None
    ) -> list[dict[str, Any]]:
        """Returns the translation of each text, as JSON.

        Args:
            texts: the sources.
            search: the search options.
            codes: latents of each text to decode; None: the model predicts the latents.

        Raises:
            RequestError: 422, a text is too long, or the model lacks the capability; 429.
        """
        lengths = self._lengths(texts, "text")
        if codes is not None:
            rows: list[Any] = list(zip(texts, codes, strict=True))
            ratio = self.manifest.tokens_per_latent
            lengths = [max(n, ratio * len(row)) for n, row in zip(lengths, codes, strict=True)]
            kind: tuple[Any, ...] = (_DECODE_CODES,)
        else:
            self._check(search)
            rows, kind = list(enumerate(texts)), (_TRANSLATE, *search)
        found = await self._queue.run(kind, rows, lengths)
        return [self._translation(hypothesis) for hypothesis in found]

    async def score(self, sources: list[str], targets: list[str]) -> list[dict[str, Any]]:
        """Returns the log-probability of each target, as JSON.

        Raises:
            RequestError: 422, a text is too long; 429.
        """
        both = zip(self._lengths(sources, "source"), self._lengths(targets, "target"), strict=True)
        rows = list(zip(sources, targets, strict=True))
        found = await self._queue.run((_SCORE,), rows, [max(lengths) for lengths in both])
        return [_pair_score(score) for score in found]

    def check_codes(self, codes: Any, name: str) -> list[int]:
        """Checks and returns the codes of one text; raises a RequestError if they are invalid."""
        manifest = self.manifest
        if not manifest.num_codes:
            raise RequestError(422, f"Model {self.name} has no latents: omit codes.")
        most = (manifest.max_length + manifest.max_extra_length) // manifest.tokens_per_latent
        return check_codes(codes, name, below=manifest.num_codes, most=most)

    def _lengths(self, texts: list[str], name: str) -> list[int]:
        lengths = [len(ids) + 1 for ids in self._runtimes[0].vocabulary.encode(texts)]
        most = self.manifest.max_length
        for index, length in enumerate(lengths):
            if length > most:
                raise RequestError(
                    422,
                    f"{name}[{index}] has {length} tokens, expected at most {most} for model "
                    f"{self.name}.",
                )
        return lengths

    def _check(self, search: Search) -> None:
        if search.temperature and not self._runtimes[0].can_sample:
            raise RequestError(
                422,
                f"Model {self.name} was exported for beam search and cannot sample: omit "
                "temperature.",
            )
        most = self.manifest.max_extra_length
        if search.extra_length is not None and search.extra_length > most:
            raise RequestError(
                422,
                f"extra_length is {search.extra_length}, expected at most {most} for model "
                f"{self.name}.",
            )

    def _warm(self, worker: int) -> None:
        list(self._runtimes[worker].translate([_WARM_TEXT]))

    def _compute(self, worker: int, kind: tuple[Any, ...], rows: list[Any]) -> list[Any]:
        model = self._runtimes[worker]
        what, *settings = kind
        if what == _SCORE:
            return list(model.score(rows))
        if what == _DECODE_CODES:
            return list(model.decode_codes(rows))
        search = Search(*settings)._asdict()
        temperature = search["temperature"]
        if temperature is None:
            temperature = self.manifest.decoding.get("sampling_temperature", 0)
        if not temperature:
            return list(model.translate([text for _, text in rows], **search))
        # Samples depend on the position of a text in its request.
        found: list[Hypothesis] = []
        for start, stop in _runs([number for number, _ in rows]):
            texts = [text for _, text in rows[start:stop]]
            found += model.translate(texts, first_index=rows[start][0], **search)
        return found

    def _translation(self, found: Hypothesis) -> dict[str, Any]:
        known: dict[str, Any] = {"text": found.text, "score": found.score, "cut": found.cut}
        if self.manifest.num_codes:
            known |= {"codes": list(found.codes), "segments": self._segments(found)}
        if found.others:
            known["alternatives"] = [self._translation(other) for other in found.others]
        return known

    def _segments(self, found: Hypothesis) -> list[dict[str, Any]]:
        """Divides a text into segments, one for each latent of its tokens."""
        vocabulary = self._runtimes[0].vocabulary
        segments, begin, ids = [], 0, []
        for latent, tokens in itertools.groupby(found.tokens, lambda token: token.latent):
            ids += [token.id for token in tokens]
            text = one_line(vocabulary.decode(ids))
            # A character that two latents share belongs to the latent of its last byte.
            while not found.text.startswith(text):
                text = text.removesuffix(_BYTE_END) if text.endswith(_BYTE_END) else text[:-1]
            segments.append({"text": text[begin:], "code": latent})
            begin = len(text)
        return segments


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yields start and end index in the list of each run of consecutive numbers."""
    start = 0
    for stop in range(1, len(numbers) + 1):
        if stop == len(numbers) or numbers[stop] != numbers[stop - 1] + 1:
            yield start, stop
            start = stop


def _pair_score(found: PairScore) -> dict[str, Any]:
    tokens = [{"text": token.piece, "log_prob": token.log_prob} for token in found.tokens]
    return {"score": found.score, "tokens": tokens}


class ImageService(Service):
    """A model of images.

    Attributes:
        num_codes: number of codes in each codebook.
        codes_per_image: number of latents times number of codebooks.
    """

    _runtimes: Sequence[ImageRuntime]

    @property
    def num_codes(self) -> int:
        """See above."""
        return self.manifest.num_codes

    @property
    def codes_per_image(self) -> int:
        """See above."""
        return int(np.prod(self.manifest.code_shape))

    @property
    def card(self) -> dict[str, Any]:
        """See `Service`."""
        return cards.image_card(self.name, self.manifest, most_images=self._limits.images)

    async def sample(self, num: int, sampling: Sampling) -> dict[str, Any]:
        """Returns new images and their codes, as JSON."""
        found = await self._queue.run((_SAMPLE, *sampling), list(range(num)), [1] * num)
        return {
            "images": [encode_png(image) for _, image in found],
            "codes": [codes.reshape(-1).tolist() for codes, _ in found],
        }

    async def encode(self, files: list[bytes]) -> dict[str, Any]:
        """Returns the codes of image files and their reconstructions, as JSON.

        Raises:
            RequestError: 422, a file is not an image, or the image is too large; 429.
        """
        found = await self._queue.run((_ENCODE,), list(enumerate(files)), [1] * len(files))
        return {
            "codes": [codes.reshape(-1).tolist() for _, codes, _ in found],
            "originals": [encode_png(original) for original, _, _ in found],
            "reconstructions": [encode_png(image) for _, _, image in found],
            "psnr": [psnr(original, image) for original, _, image in found],
        }

    async def decode(self, grids: list[list[int]]) -> dict[str, Any]:
        """Returns the images of codes, as JSON."""
        found = await self._queue.run((_DECODE,), grids, [1] * len(grids))
        return {"images": [encode_png(image) for image in found]}

    def _warm(self, worker: int) -> None:
        model = self._runtimes[worker]
        model.encode(model.decode(model.sample(1)))

    def _compute(self, worker: int, kind: tuple[Any, ...], rows: list[Any]) -> list[Any]:
        model = self._runtimes[worker]
        what, *settings = kind
        if what == _SAMPLE:
            sampling = Sampling(*settings)._asdict()
            parts = [
                model.sample(stop - start, first_index=rows[start], **sampling)
                for start, stop in _runs(rows)
            ]
            codes = np.concatenate(parts)
            return list(zip(codes, model.decode(codes), strict=True))
        if what == _DECODE:
            codes = np.array(rows, np.int32).reshape(-1, *self.manifest.code_shape)
            return list(model.decode(codes))
        return self._encoded(model, rows)

    def _encoded(self, model: ImageRuntime, rows: list[tuple[int, bytes]]) -> list[Any]:
        originals: list[Any] = []
        for index, file in rows:
            try:
                shape = model.image_shape
                originals.append(read_picture(file, f"images[{index}]", shape, self._limits.pixels))
            except RequestError as error:
                originals.append(error)
        good = [original for original in originals if not isinstance(original, RequestError)]
        if not good:
            return originals
        codes = model.encode(np.stack(good))
        found = iter(zip(good, codes, model.decode(codes), strict=True))
        return [o if isinstance(o, RequestError) else next(found) for o in originals]
