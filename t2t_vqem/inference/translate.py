"""Translation of lines of text with a trained model."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem import capabilities
from t2t_vqem.capabilities import ScoringModel, TokenModel, TranslationModel
from t2t_vqem.constants import EOS_ID, LEAST_SCORE, PAD_ID, UsageError
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.greedy import POSITION_MULTIPLE, Decoded
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.inference.alignment import word_alignment
from t2t_vqem.inference.batching import PackedBatch, pack
from t2t_vqem.models.ensemble import Ensemble
from t2t_vqem.ops.shapes import rounded_up
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime.results import Hypothesis

# Number of lines that are sorted by length together. Output is written window by window, so a
# killed decoder repeats at most one window. Fewer lines would need more padding.
WINDOW_LINES = 2048
DEFAULT_BATCH_TOKENS = 16_384  # fewer shapes to compile than with 4096, and no slower
_USED = ("tokens", "scores", "codes", "num_repeats")  # the fields of `Decoded` that are used
_logger = logging.getLogger(__name__)


def load_translator(
    run: OutputDir,
    checkpoint: str | None,
    options: DecodeOptions,
    *,
    ensemble: Sequence[tuple[OutputDir, str | None]] = (),
    **settings: Any,
) -> Translator:
    """Returns the translator of a trained run, or of several that translate together.

    Args:
      run: the run.
      checkpoint: as in `OutputDir.find_checkpoint`.
      options: the decoding options.
      ensemble: further runs with the same vocabulary, and the checkpoint of each; see
        `models.ensemble.Ensemble`.
      **settings: arguments of `Translator`, without max_length, which is that of the run, or the
        smallest one.

    Raises:
      UsageError: a run is not of text, cannot be part of an ensemble or has another vocabulary, a
        checkpoint is unusable, or a setting is invalid.
    """
    runs = [(run, checkpoint), *ensemble]
    models = []
    for each, its_checkpoint in runs:
        check_translates(each)
        if ensemble:
            _check_member(each, run)
        models.append(each.build_model())
        _logger.info("weights of %s", each.restore_for_inference(models[-1], its_checkpoint))
    model = Ensemble(models) if ensemble else models[0]
    max_length = min(each.hparams().max_length for each, _ in runs)
    return Translator(model, run.vocabulary(), options, max_length=max_length, **settings)


def _check_member(run: OutputDir, first: OutputDir) -> None:
    """Checks that a run can translate together with another one."""
    model = run.hparams().model
    if not capabilities.offers(model, TokenModel):
        raise UsageError(
            f"the run in {run.path} is of the model {model!r}: an ensemble needs models that "
            "translate token by token. Expected one of: "
            f"{capabilities.models_that_offer(TokenModel)}"
        )
    if run.vocabulary().hash != first.vocabulary().hash:
        raise UsageError(
            f"the runs in {run.path} and {first.path} have different vocabularies, so they cannot "
            "translate together: expected runs that were trained on data with one vocabulary"
        )


def check_translates(run: OutputDir) -> None:
    """Checks that a run can translate, without loading its weights.

    Raises:
      UsageError: its problem is not text, or its model does not translate.
    """
    problem, model = run.problem(), run.hparams().model
    if not problem.needs_a(TranslationModel):
        raise UsageError(
            f"the run in {run.path} is of the problem {problem.name!r} and the model {model!r}: "
            f"expected a run of text, with a model that {TranslationModel.offers}"
        )
    capabilities.check_fits(problem, model)


class Translator:
    """Translates lines in their order, compiling the model once for each of a few shapes.

    Compiled functions read the model's variables when they run, so a translator can be used while
    its model trains.

    Attributes:
      num_cut: number of lines so far that were truncated because they exceed `max_length`.
    """

    def __init__(
        self,
        model: TranslationModel,
        vocabulary: Vocabulary,
        options: DecodeOptions,
        *,
        max_length: int,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        seed: int = 0,
        xla: bool = True,
        concurrency: int = 2,
        rescorer: ScoringModel | None = None,
        align: bool = False,
    ):
        """Makes a translator, without compiling.

        Args:
          model: a built model.
          vocabulary: the vocabulary that encodes and decodes text.
          options: the decoding options.
          max_length: the largest number of source ids of a line, including EOS; longer lines are
            truncated, with a warning.
          batch_tokens: number of source positions in a batch, including padding, counted once for
            each hypothesis.
          seed: seed of sampling. The sample of a line depends on the seed, the line's index and its
            text, not on other lines.
          xla: whether to compile with XLA: faster steps, after seconds of compilation per shape.
          concurrency: number of batches in flight, so that text is prepared while the device works.
          rescorer: a model with the same vocabulary that chooses among `options.num_candidates`;
            None: the model itself chooses.
          align: whether to align the words of each translation with those of its source, by the
            attention of a `TokenModel`.

        Raises:
          UsageError: a number is out of range.
        """
        for name, value, least in (
            ("max_length", max_length, 2),
            ("batch_tokens", batch_tokens, 1),
            ("concurrency", concurrency, 1),
        ):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}")
        self.num_cut = 0
        self._model = model
        self._vocabulary = vocabulary
        self._options = options
        self._max_length = max_length
        hypotheses = max(options.beam_size, options.num_candidates)
        self._batch_tokens = max(1, batch_tokens // hypotheses)
        self._arguments = {"rescorer": rescorer} if rescorer is not None else {}
        self._seed = seed
        self._align = align
        self._xla = xla
        self._concurrency = concurrency
        # Kept between calls: the first operation of a new thread in TensorFlow takes milliseconds
        # longer, which is a large part of the time for a short sentence.
        self._pool = ThreadPoolExecutor(concurrency)
        self._compiled: dict[tuple[int, int, int], Callable] = {}

    def translate(
        self,
        lines: Iterable[str],
        *,
        first_index: int = 0,
        prefixes: Iterable[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Hypothesis]:
        """Yields one hypothesis for each line, in order, a window of lines at a time.

        A blank line gives an empty translation. Text that is longer than `max_length` is truncated,
        and a warning at the end gives the number of such lines.

        Args:
          lines: source text; read lazily, `WINDOW_LINES` ahead.
          first_index: index of the first line, which sampling depends on.
          prefixes: text that the translation of each line begins with, possibly empty; for a
            `TokenModel`. None: no line has one.
          progress: called with the number of lines that were just finished, as batches complete.
        """
        lines = iter(lines)
        starts = itertools.repeat("") if prefixes is None else iter(prefixes)
        num_cut_before = self.num_cut
        while window := list(itertools.islice(lines, WINDOW_LINES)):
            own = list(itertools.islice(starts, len(window)))
            yield from self._translate_window(window, own, first_index, progress)
            first_index += len(window)
        if num_cut := self.num_cut - num_cut_before:
            _logger.warning(
                "%d input line(s) had more than max_length=%d tokens and were truncated; "
                "their translations end early",
                num_cut,
                self._max_length,
            )

    def lengths(self, lines: Sequence[str]) -> list[int]:
        """Returns the number of ids of each source line, including EOS, at most `max_length`."""
        return [min(len(ids) + 1, self._max_length) for ids in self._vocabulary.encode([*lines])]

    def _translate_window(
        self,
        window: Sequence[str],
        prefixes: Sequence[str],
        first_index: int,
        progress: Callable[[int], None] | None,
    ) -> list[Hypothesis]:
        full = [index for index, line in enumerate(window) if line and not line.isspace()]
        sources = self._encode([window[index] for index in full])
        starts = self._encode_prefixes(prefixes, full, first_index)
        results = [Hypothesis("", 0.0)] * len(window)
        if progress and len(full) < len(window):
            progress(len(window) - len(full))

        def run(batch: PackedBatch, function: Callable) -> list[Hypothesis]:
            row_ids = [first_index + full[member] for member in batch.members]
            rows = [(sources[member], starts[member]) for member in batch.members]
            return self._run(batch, function, rows, row_ids)

        batches = pack([len(source) for source in sources], self._batch_tokens, self._concurrency)
        functions = [
            self._function(
                batch.rows, batch.length, _padded_length([starts[m] for m in batch.members])
            )
            for batch in batches
        ]
        for batch, hypotheses in zip(batches, self._run_all(run, batches, functions), strict=True):
            for member, hypothesis in zip(batch.members, hypotheses, strict=True):
                results[full[member]] = hypothesis
            if progress:
                progress(len(hypotheses))
        return results

    def _run_all(
        self,
        run: Callable[[PackedBatch, Callable], list[Hypothesis]],
        batches: Sequence[PackedBatch],
        functions: Sequence[Callable],
    ) -> Iterator[list[Hypothesis]]:
        """Yields what `run` returns for each batch, in order, several of them in flight."""
        if len(batches) == 1:  # another thread would take longer than it saves
            yield run(batches[0], functions[0])
            return
        futures = list(map(self._pool.submit, itertools.repeat(run), batches, functions))
        try:
            for future in futures:
                yield future.result()
        finally:  # after an error or an interrupt, cancel the queued batches
            for future in futures:
                future.cancel()
            wait(futures)

    def _encode(self, lines: list[str]) -> list[list[int]]:
        """Returns the ids of each line, including EOS, truncated to `max_length`."""
        sources = []
        for ids in self._vocabulary.encode(lines) if lines else ():
            if len(ids) >= self._max_length:
                ids = ids[: self._max_length - 1]
                self.num_cut += 1
            sources.append([*ids, EOS_ID])
        return sources

    def _encode_prefixes(
        self, prefixes: Sequence[str], full: Sequence[int], first_index: int
    ) -> list[list[int]]:
        """Returns the ids of the prefixes of the lines that are not blank."""
        found = self._vocabulary.encode([prefixes[index] for index in full]) if full else []
        for index, ids in zip(full, found, strict=True):
            if len(ids) >= self._max_length:
                raise UsageError(
                    f"the prefix of line {first_index + index + 1} has {len(ids)} tokens, expected "
                    f"fewer than max_length={self._max_length}"
                )
        return found

    def _run(
        self,
        batch: PackedBatch,
        function: Callable,
        lines: list[tuple[list[int], list[int]]],
        row_ids: list[int],
    ) -> list[Hypothesis]:
        """Runs the model on one batch; rows without a line are all padding.

        Args:
          batch: the batch.
          function: the compiled search.
          lines: the ids of each source and of its prefix.
          row_ids: the index of each line.
        """
        inputs = np.full([batch.rows, batch.length], PAD_ID, np.int32)
        prefix = np.full(
            [batch.rows, _padded_length([start for _, start in lines])], PAD_ID, np.int32
        )
        for row, (source, start) in enumerate(lines):
            inputs[row, : len(source)] = source
            prefix[row, : len(start)] = start
        ids = np.zeros([batch.rows], np.int32)
        # Row ids are hashed, so they may wrap around after 2^32 lines.
        ids[: len(row_ids)] = np.asarray(row_ids, np.int64).astype(np.int32)
        given = [inputs, ids, prefix] if prefix.size else [inputs, ids]
        outputs = function(*map(tf.constant, given))
        outputs = {name: output.numpy() for name, output in outputs.items()}
        weights = outputs.pop("attention", None)
        decoded = Decoded(**outputs)
        return [
            self._hypotheses(decoded, row, source, weights) for row, (source, _) in enumerate(lines)
        ]

    def _hypotheses(
        self, decoded: Decoded, row: int, source: list[int], weights: np.ndarray | None
    ) -> Hypothesis:
        """Returns the hypotheses for a row of the batch."""
        num = self._options.num_best
        found = []
        for index in range(row * num, (row + 1) * num):
            hypothesis = self._hypothesis(decoded, index)
            if weights is not None:
                tokens, vocabulary = decoded.tokens[index], self._vocabulary
                aligned = word_alignment(source, tokens, weights[index], vocabulary)
                hypothesis = hypothesis._replace(alignment=aligned)
            found.append(hypothesis)
        best, *others = found
        return best._replace(others=tuple(h for h in others if h.score > LEAST_SCORE))

    def _hypothesis(self, decoded: Decoded, row: int) -> Hypothesis:
        tokens = decoded.tokens[row]
        hypothesis = Hypothesis(
            one_line(self._vocabulary.decode(tokens.tolist())),
            float(decoded.scores[row]),
            cut=EOS_ID not in tokens,
        )
        if decoded.codes is None:
            return hypothesis
        codes = decoded.codes[row]
        return hypothesis._replace(
            codes=tuple(codes[codes >= 0].tolist()),
            num_tokens=int((tokens != PAD_ID).sum()),
            num_repeats=int(decoded.num_repeats[row]),
        )

    def _function(self, rows: int, length: int, prefix_length: int) -> Callable:
        """Returns the compiled search for a shape: (inputs, row_ids) -> outputs by name.

        With a `prefix_length` it takes the prefixes as well.
        """
        key = (rows, length, prefix_length)
        if key not in self._compiled:
            longest = max(length, prefix_length)
            positions = rounded_up(longest + self._options.extra_length, POSITION_MULTIPLE)

            def infer(
                inputs: tf.Tensor, row_ids: tf.Tensor, prefix: tf.Tensor | None = None
            ) -> dict[str, tf.Tensor]:
                decoded = self._model.infer(
                    inputs,
                    self._options,
                    seed=tf.constant(self._seed, tf.int32),
                    row_ids=row_ids,
                    max_length=positions,
                    **self._arguments,
                    **({} if prefix is None else {"prefix": prefix}),
                )
                found = {name: getattr(decoded, name, None) for name in _USED}
                if self._align:
                    repeated = tf.repeat(inputs, self._options.num_best, axis=0)
                    found["attention"] = self._model.attention_weights(repeated, decoded.tokens)
                return {name: value for name, value in found.items() if value is not None}

            # The concrete function, which does not search for a fitting trace at each call: that
            # would take as long as two or three tokens of a single sentence.
            self._compiled[key] = tf.function(
                infer,
                input_signature=[
                    tf.TensorSpec(shape, tf.int32)
                    for shape in ([rows, length], [rows], [rows, prefix_length])
                    if shape[-1]
                ],
                jit_compile=self._xla,
                autograph=False,
            ).get_concrete_function()
        return self._compiled[key]


def _padded_length(prefixes: Sequence[Sequence[int]]) -> int:
    """Returns the number of positions for the prefixes of a batch; 0 if all are empty."""
    return rounded_up(max(map(len, prefixes), default=0), POSITION_MULTIPLE)
