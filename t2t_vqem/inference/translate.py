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
from t2t_vqem.capabilities import ScoringModel, TranslationModel
from t2t_vqem.constants import EOS_ID, LEAST_SCORE, PAD_ID, UsageError
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.greedy import POSITION_MULTIPLE, Decoded
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.inference.batching import PackedBatch, pack
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
    run: OutputDir, checkpoint: str | None, options: DecodeOptions, **settings: Any
) -> Translator:
    """Returns the translator of a trained run.

    Args:
      run: the run.
      checkpoint: as in `OutputDir.find_checkpoint`.
      options: the decoding options.
      **settings: arguments of `Translator`, without max_length, which is that of the run.

    Raises:
      UsageError: the run is not of text, its checkpoint is unusable, or a setting is invalid.
    """
    check_translates(run)
    vocabulary = run.vocabulary()
    model = run.build_model()
    _logger.info("weights of %s", run.restore_for_inference(model, checkpoint))
    return Translator(model, vocabulary, options, max_length=run.hparams().max_length, **settings)


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
        self._xla = xla
        self._concurrency = concurrency
        # Kept between calls: the first operation of a new thread in TensorFlow takes milliseconds
        # longer, which is a large part of the time for a short sentence.
        self._pool = ThreadPoolExecutor(concurrency)
        self._compiled: dict[tuple[int, int], Callable] = {}

    def translate(
        self,
        lines: Iterable[str],
        *,
        first_index: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Hypothesis]:
        """Yields one hypothesis for each line, in order, a window of lines at a time.

        A blank line gives an empty translation. Text that is longer than `max_length` is truncated,
        and a warning at the end gives the number of such lines.

        Args:
          lines: source text; read lazily, `WINDOW_LINES` ahead.
          first_index: index of the first line, which sampling depends on.
          progress: called with the number of lines that were just finished, as batches complete.
        """
        lines = iter(lines)
        num_cut_before = self.num_cut
        while window := list(itertools.islice(lines, WINDOW_LINES)):
            yield from self._translate_window(window, first_index, progress)
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
        first_index: int,
        progress: Callable[[int], None] | None,
    ) -> list[Hypothesis]:
        full = [index for index, line in enumerate(window) if line and not line.isspace()]
        sources = self._encode([window[index] for index in full])
        results = [Hypothesis("", 0.0)] * len(window)
        if progress and len(full) < len(window):
            progress(len(window) - len(full))

        def run(batch: PackedBatch, function: Callable) -> list[Hypothesis]:
            row_ids = [first_index + full[member] for member in batch.members]
            batch_sources = [sources[member] for member in batch.members]
            return self._run(batch, function, batch_sources, row_ids)

        batches = pack([len(source) for source in sources], self._batch_tokens, self._concurrency)
        functions = [self._function(batch.rows, batch.length) for batch in batches]
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

    def _run(
        self,
        batch: PackedBatch,
        function: Callable,
        sources: list[list[int]],
        row_ids: list[int],
    ) -> list[Hypothesis]:
        """Runs the model on one batch; rows without a line are all padding."""
        inputs = np.full([batch.rows, batch.length], PAD_ID, np.int32)
        for row, source in enumerate(sources):
            inputs[row, : len(source)] = source
        ids = np.zeros([batch.rows], np.int32)
        # Row ids are hashed, so they may wrap around after 2^32 lines.
        ids[: len(row_ids)] = np.asarray(row_ids, np.int64).astype(np.int32)
        outputs = function(tf.constant(inputs), tf.constant(ids))
        decoded = Decoded(**{name: output.numpy() for name, output in outputs.items()})
        return [self._hypotheses(decoded, row) for row in range(len(sources))]

    def _hypotheses(self, decoded: Decoded, row: int) -> Hypothesis:
        """Returns the hypotheses for a row of the batch."""
        num = self._options.num_best
        best, *others = (self._hypothesis(decoded, row * num + rank) for rank in range(num))
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

    def _function(self, rows: int, length: int) -> Callable:
        """Returns the compiled search for a shape: (inputs, row_ids) -> fields of `Decoded`."""
        key = (rows, length)
        if key not in self._compiled:
            positions = rounded_up(length + self._options.extra_length, POSITION_MULTIPLE)

            def infer(inputs: tf.Tensor, row_ids: tf.Tensor) -> dict[str, tf.Tensor]:
                decoded = self._model.infer(
                    inputs,
                    self._options,
                    seed=tf.constant(self._seed, tf.int32),
                    row_ids=row_ids,
                    max_length=positions,
                    **self._arguments,
                )
                found = {name: getattr(decoded, name, None) for name in _USED}
                return {name: value for name, value in found.items() if value is not None}

            # The concrete function, which does not search for a fitting trace at each call: that
            # would take as long as two or three tokens of a single sentence.
            self._compiled[key] = tf.function(
                infer,
                input_signature=[
                    tf.TensorSpec([rows, length], tf.int32),
                    tf.TensorSpec([rows], tf.int32),
                ],
                jit_compile=self._xla,
                autograph=False,
            ).get_concrete_function()
        return self._compiled[key]
