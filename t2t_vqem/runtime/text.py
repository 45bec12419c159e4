"""Translation, scoring and decoding of codes with an exported model of text."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, TypeVar

import numpy as np

from t2t_vqem.constants import EOS_ID, FILL_ID, LEAST_SCORE, PAD_ID, UsageError
from t2t_vqem.data.groups import group_words
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.runtime.batching import batches_by_length
from t2t_vqem.runtime.interpreters import Backend
from t2t_vqem.runtime.manifest import Manifest
from t2t_vqem.runtime.results import Hypothesis, PairScore, Token

# Number of lines that are sorted by length together; output is written window by window.
WINDOW_LINES = 2048
# The largest number of hypotheses in a batch, and the least number of rows that it is limited to.
# With more, the caches of a search leave the caches of the processor, which costs more time than
# larger products save: 32 sentences take 1.5 to 2.5 times as long each as 8.
_BATCH_HYPOTHESES, _FEWEST_ROWS = 8, 2
DEFAULT_BATCH_TOKENS = 2048
TRANSLATE, SCORE, DECODE_CODES = "translate", "score", "decode_codes"
TRANSLATE_ONE = "translate_one"  # a faster graph for a single line, not in exports before 0.3
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Progress = Callable[[int], None] | None
_logger = logging.getLogger(__name__)


class _Job(NamedTuple):
    """The computation of batches of items."""

    lengths: list[int]
    run: Callable[[list[int]], list[Any]]  # indices of a batch -> their results


class TextRuntime:
    """Translates lines in their order. Several threads can use it at the same time.

    Attributes:
        manifest: the manifest of the export.
        vocabulary: its vocabulary.
        num_cut: number of lines so far that were truncated to `manifest.max_length`.
    """

    def __init__(
        self,
        manifest: Manifest,
        vocabulary: Vocabulary,
        backend: Backend,
        *,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
    ):
        """Stores its arguments; `loading.load` makes them from a folder.

        Args:
            manifest: the manifest of the export.
            vocabulary: the vocabulary that encodes and decodes text.
            backend: computes the functions of the model.
            batch_tokens: number of source tokens in a batch, including padding, counted once for
                each hypothesis.
        """
        if batch_tokens < 1:
            raise UsageError(f"batch_tokens must be at least 1, got {batch_tokens}")
        self.manifest, self.vocabulary = manifest, vocabulary
        self.num_cut = 0
        self._backend = backend
        decoding = manifest.decoding
        hypotheses = max(decoding.get("beam_size", 1), decoding.get("num_candidates", 1))
        self._batch_tokens = max(1, batch_tokens // hypotheses)
        self._batch_rows = max(_FEWEST_ROWS, _BATCH_HYPOTHESES // hypotheses)
        self._pool = ThreadPoolExecutor(backend.concurrency)

    def close(self) -> None:
        """Frees the threads and the model; the runtime cannot be used afterwards."""
        self._pool.shutdown()
        del self._backend

    @property
    def has_latents(self) -> bool:
        """Whether the model translates with latents and so has `decode_codes`."""
        return self.manifest.num_codes > 0

    @property
    def beam_size(self) -> int:
        """Number of hypotheses of the export's beam search; 1: no beam search."""
        return self.manifest.decoding.get("beam_size", 1)

    @property
    def num_best(self) -> int:
        """The largest number of hypotheses of a translation, including `Hypothesis.others`."""
        return self.manifest.decoding.get("num_best", 1)

    @property
    def can_sample(self) -> bool:
        """Whether `translate` takes a temperature above 0."""
        return "temperature" in (self._backend.inputs(TRANSLATE) or ())

    def translate(
        self,
        lines: Iterable[str],
        *,
        num_best: int | None = None,
        alpha: float | None = None,
        extra_length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        seed: int = 0,
        first_index: int = 0,
        progress: _Progress = None,
    ) -> Iterator[Hypothesis]:
        """Yields one hypothesis for each line, in order, a window of lines at a time.

        A blank line gives an empty translation. Lines longer than the model's limit are truncated,
        and a warning at the end gives their number. None stands for the value of the export.

        Args:
            lines: source text; read lazily, `WINDOW_LINES` ahead.
            num_best: number of hypotheses to return.
            alpha: exponent of the length penalty.
            extra_length: a translation has at most this many tokens more than its source.
            temperature: draw from softmax(logits / temperature); 0: search instead.
            top_k: draw only among the k most probable tokens; 0: all.
            seed: seed of sampling. The sample of a line depends on the seed, its index and its
                text.
            first_index: index of the first line.
            progress: called with the number of lines that were just finished.

        Raises:
            UsageError: a value is out of range, or the export was not made for it.
        """
        settings = self._settings(alpha, extra_length, temperature, top_k)
        settings["seed"] = np.array(seed & 0x7FFFFFFF, np.int32)
        num_best = self.num_best if num_best is None else num_best
        if not 1 <= num_best <= self.num_best:
            raise UsageError(
                f"num_best is {num_best}, expected 1 to {self.num_best}: the export was made for a "
                f"beam of {self.beam_size} and num_best {self.num_best}. Export the run again with "
                f"--decode_hparams=beam_size={max(num_best, self.beam_size)},num_best={num_best}"
            )

        def job(window: list[str], start: int) -> _Job:
            sources = self._sources(window)

            signature = self._signature(len(window), settings)

            def run(members: list[int]) -> list[Hypothesis]:
                rows = np.array([start + member for member in members], np.int64)
                # Row ids are hashed, so they may wrap around after 2^32 lines.
                outputs = self._call(
                    signature,
                    inputs=_padded([sources[member] for member in members]),
                    row_ids=rows.astype(np.int32),
                    **settings,
                )
                return [self._hypotheses(outputs, row, num_best) for row in range(len(members))]

            return _Job([len(source) for source in sources], run)

        def is_blank(line: str) -> bool:
            return not line or line.isspace()

        nothing = Hypothesis("", 0.0)
        return self._in_windows(lines, job, first_index, progress, blank=(is_blank, nothing))

    def score(
        self, pairs: Iterable[tuple[str, str]], *, progress: _Progress = None
    ) -> Iterator[PairScore]:
        """Yields the log-probability of each pair of source and translation, in order.

        Args:
            pairs: sources and translations, read lazily, `WINDOW_LINES` ahead.
            progress: called with the number of pairs that were just finished.

        Raises:
            UsageError: the export cannot score.
        """
        self._require(SCORE)

        def job(window: list[tuple[str, str]], start: int) -> _Job:
            del start
            sources = self._sources([source for source, _ in window])
            targets = self._targets([target for _, target in window])

            def run(members: list[int]) -> list[PairScore]:
                inputs, tokens = (
                    _padded([side[member] for member in members]) for side in (sources, targets)
                )
                outputs = self._call(SCORE, inputs=inputs, targets=tokens)
                return [self._pair_score(outputs, tokens, row) for row in range(len(members))]

            both = zip(sources, targets, strict=True)
            return _Job([max(len(source), len(target)) for source, target in both], run)

        return self._in_windows(pairs, job, 0, progress)

    def decode_codes(
        self, requests: Iterable[tuple[str, Sequence[int]]], *, progress: _Progress = None
    ) -> Iterator[Hypothesis]:
        """Yields the translation of each source with given latents, in order.

        Args:
            requests: source lines and codes, read lazily, `WINDOW_LINES` ahead.
            progress: called with the number of requests that were just finished.

        Raises:
            UsageError: the model has no latents; or a request has no codes, too many codes, or
                codes out of range.
        """
        self._require(DECODE_CODES)

        def job(window: list[tuple[str, Sequence[int]]], start: int) -> _Job:
            del start
            sources = self._sources([source for source, _ in window])
            codes = [self._checked_codes(codes) for _, codes in window]

            def run(members: list[int]) -> list[Hypothesis]:
                outputs = self._call(
                    DECODE_CODES,
                    inputs=_padded([sources[member] for member in members]),
                    codes=_padded([codes[member] for member in members], -1),
                )
                return [self._hypothesis(outputs, row) for row in range(len(members))]

            ratio = self.manifest.tokens_per_latent
            both = zip(sources, codes, strict=True)
            return _Job([max(len(source), ratio * len(row)) for source, row in both], run)

        return self._in_windows(requests, job, 0, progress)

    def _settings(
        self,
        alpha: float | None,
        extra_length: int | None,
        temperature: float | None,
        top_k: int | None,
    ) -> dict[str, np.ndarray]:
        """Checks the settings and returns them as inputs of the graph."""
        decoding, most = self.manifest.decoding, self.manifest.max_extra_length
        given = {
            "alpha": decoding["alpha"] if alpha is None else alpha,
            "extra_length": decoding["extra_length"] if extra_length is None else extra_length,
            "temperature": (
                decoding["sampling_temperature"] if temperature is None else temperature
            ),
            "top_k": decoding["sampling_top_k"] if top_k is None else top_k,
        }
        if not 1 <= given["extra_length"] <= most:
            raise UsageError(f"extra_length is {given['extra_length']}, expected 1 to {most}")
        for name in ("alpha", "temperature", "top_k"):
            if not 0 <= given[name] < 2**31:
                raise UsageError(f"{name} is {given[name]}, expected a number that is not negative")
        if given["temperature"] and not self.can_sample:
            raise UsageError(
                f"temperature is {given['temperature']}, but this export searches with a beam of "
                f"{self.beam_size}: export the run again without beam_size to sample"
            )
        types = {"alpha": np.float32, "temperature": np.float32}
        return {name: np.array(value, types.get(name, np.int32)) for name, value in given.items()}

    def _signature(self, num_lines: int, settings: dict[str, np.ndarray]) -> str:
        """Returns the function that translates lines."""
        inputs = self._backend.inputs(TRANSLATE_ONE)
        draws_tokens = settings["temperature"] > 0 and "temperature" not in (inputs or ())
        return TRANSLATE if num_lines > 1 or inputs is None or draws_tokens else TRANSLATE_ONE

    def _require(self, signature: str) -> None:
        if self._backend.inputs(signature) is None:
            raise UsageError(
                f"this export of {self.manifest.model!r} has no {signature!r}: the model "
                "lacks this capability"
            )

    def _call(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        names = self._backend.inputs(signature)
        return self._backend.call(signature, {name: inputs[name] for name in names})

    def _sources(self, lines: list[str]) -> list[list[int]]:
        """Returns the ids of each line, including EOS, truncated to the model's limit."""
        found = []
        for ids in self.vocabulary.encode(lines):
            if len(ids) >= self.manifest.max_length:
                ids = ids[: self.manifest.max_length - 1]
                self.num_cut += 1
            found.append([*ids, EOS_ID])
        return found

    def _targets(self, lines: list[str]) -> list[list[int]]:
        """Returns the ids of each translation, including EOS, in groups if the model needs them."""
        encoded, size = self.vocabulary.encode(lines), self.manifest.group_size
        if size > 1:
            groups = group_words(encoded, self.vocabulary.word_starts, size)
            found = [group.tolist() for group in groups]
        else:
            found = [[*ids, EOS_ID] for ids in encoded]
        most = self.manifest.max_length + self.manifest.max_extra_length
        self.num_cut += sum(len(ids) > most for ids in found)
        return [ids if len(ids) <= most else [*ids[: most - 1], EOS_ID] for ids in found]

    def _checked_codes(self, codes: Sequence[int]) -> list[int]:
        manifest = self.manifest
        most = (manifest.max_length + manifest.max_extra_length) // manifest.tokens_per_latent
        if not 1 <= len(codes) <= most:
            raise UsageError(f"got {len(codes)} codes, expected 1 to {most}")
        for code in codes:
            if not 0 <= code < manifest.num_codes:
                raise UsageError(
                    f"code {code}: expected a number from 0 to {manifest.num_codes - 1}"
                )
        return [int(code) for code in codes]

    def _in_windows(
        self,
        items: Iterable[_Item],
        make_job: Callable[[list[_Item], int], _Job],
        start: int,
        progress: _Progress,
        blank: tuple[Callable[[_Item], bool], Any] | None = None,
    ) -> Iterator[Any]:
        """Yields the result of each item."""
        items, num_cut_before = iter(items), self.num_cut
        is_blank, of_blank = blank or (lambda item: False, None)
        while window := list(itertools.islice(items, WINDOW_LINES)):
            # Nothing is computed for blank items.
            full = [index for index, item in enumerate(window) if not is_blank(item)]
            results = [of_blank] * len(window)
            if progress and len(full) < len(window):
                progress(len(window) - len(full))
            for index, result in self._computed(make_job, window, full, start, progress):
                results[index] = result
            yield from results
            start += len(window)
        if num_cut := self.num_cut - num_cut_before:
            _logger.warning(
                "%d input line(s) had more than max_length=%d tokens and were truncated; their "
                "translations end early",
                num_cut,
                self.manifest.max_length,
            )

    def _computed(
        self,
        make_job: Callable[[list[Any], int], _Job],
        window: list[Any],
        full: list[int],
        start: int,
        progress: _Progress,
    ) -> Iterator[tuple[int, Any]]:
        """Yields the index and the result of each item of a window that is not blank."""
        if not full:
            return
        job = make_job(window, start)
        lengths = [job.lengths[index] for index in full]
        rows = min(self._batch_rows, -(-len(full) // self._backend.concurrency))
        batches = [
            [full[member] for member in batch]
            for batch in batches_by_length(lengths, self._batch_tokens, rows)
        ]
        for members, found in zip(batches, self._run_all(job.run, batches), strict=True):
            yield from zip(members, found, strict=True)
            if progress:
                progress(len(members))

    def _run_all(
        self, run: Callable[[list[int]], list[Any]], batches: list[list[int]]
    ) -> Iterator[list[Any]]:
        """Yields the results of `run` for each batch, in order; runs several at the same time."""
        if len(batches) == 1:  # another thread would take longer than it saves
            yield run(batches[0])
            return
        futures: list[Future] = [self._pool.submit(run, batch) for batch in batches]
        try:
            for future in futures:
                yield future.result()
        finally:  # after an error or an interrupt, cancel the queued batches
            for future in futures:
                future.cancel()
            wait(futures)

    def _hypotheses(self, outputs: dict[str, np.ndarray], row: int, num_best: int) -> Hypothesis:
        """Returns the hypotheses for a row of the batch."""
        first = row * self.num_best
        best, *others = (self._hypothesis(outputs, first + rank) for rank in range(num_best))
        return best._replace(others=tuple(h for h in others if h.score > LEAST_SCORE))

    def _hypothesis(self, outputs: dict[str, np.ndarray], row: int) -> Hypothesis:
        tokens = outputs["tokens"][row]
        latents = outputs["latents"][row] if "latents" in outputs else np.full(len(tokens), -1)
        hypothesis = Hypothesis(
            text=one_line(self.vocabulary.decode(tokens)),
            score=float(outputs["scores"][row]),
            cut=EOS_ID not in tokens,
            num_tokens=int((tokens != PAD_ID).sum()),
            tokens=self._tokens(tokens, outputs["log_probs"][row], latents),
        )
        if "codes" not in outputs:
            return hypothesis
        codes, raw = outputs["codes"][row], outputs["raw_tokens"][row]
        return hypothesis._replace(
            codes=tuple(codes[codes >= 0].tolist()),
            num_repeats=int(outputs["num_repeats"][row]),
            raw_tokens=self._tokens(
                raw,
                outputs["raw_log_probs"][row],
                np.arange(len(raw)) // self.manifest.tokens_per_latent,
            ),
        )

    def _tokens(
        self,
        ids: np.ndarray,
        log_probs: np.ndarray,
        latents: np.ndarray,
        *,
        with_eos: bool = False,
    ) -> tuple[Token, ...]:
        kept = ids != PAD_ID if with_eos else (ids != PAD_ID) & (ids != EOS_ID)
        ids, log_probs, latents = (x[kept].tolist() for x in (ids, log_probs, latents))
        return tuple(map(Token, ids, map(self.vocabulary.piece, ids), log_probs, latents))

    def _pair_score(
        self, outputs: dict[str, np.ndarray], targets: np.ndarray, row: int
    ) -> PairScore:
        ids, log_probs = targets[row], outputs["log_probs"][row]
        latents = np.full(len(ids), -1)
        if "codes" in outputs:
            latents = np.arange(len(ids)) // self.manifest.tokens_per_latent
        tokens = self._tokens(ids, log_probs, latents, with_eos=True)
        found = PairScore(
            score=float(outputs["scores"][row]),
            tokens=tuple(token for token in tokens if token.id != FILL_ID),
        )
        if "codes" not in outputs:
            return found
        codes = outputs["codes"][row]
        codes = tuple(codes[codes >= 0].tolist())
        ends = outputs["code_log_probs"][row].tolist()[: len(codes) + 1]
        return found._replace(codes=codes, code_log_probs=tuple(ends))


def _padded(rows: Sequence[Sequence[int]], value: int = PAD_ID) -> np.ndarray:
    """Returns rows of any length as int32 [rows, longest]."""
    padded = np.full([len(rows), max(map(len, rows))], value, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded
