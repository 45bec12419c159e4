"""The latent non-autoregressive Transformer.

It predicts a short sequence of codes autoregressively, then decodes all tokens in parallel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.capabilities import LatentTextModel, PairScoringModel
from t2t_vqem.constants import MAX_EXTRA_LENGTH, PAD_ID, UsageError
from t2t_vqem.decoding import candidates
from t2t_vqem.decoding.beam import length_penalty
from t2t_vqem.decoding.greedy import POSITION_MULTIPLE, Decoded, Scored
from t2t_vqem.decoding.latent_search import Latents, search_latents
from t2t_vqem.decoding.options import DecodeOptions, SearchSettings
from t2t_vqem.layers.common import Dense, TokenEmbedding, position_table
from t2t_vqem.layers.latent_predictor import LatentPredictor, ProjectedSource, Source
from t2t_vqem.layers.lengths import Lengthen, Shorten
from t2t_vqem.layers.scorer import Scorer
from t2t_vqem.layers.transformer import TransformerStack
from t2t_vqem.models.base import LossOutput
from t2t_vqem.models.bottleneck import QuantizedModel, make_quantizer, start_quantizer
from t2t_vqem.ops.losses import TokenLoss, token_cross_entropy
from t2t_vqem.ops.masks import MASKED, mask_padding_token, num_tokens, padding_bias, padding_mask
from t2t_vqem.ops.random import Rng, dropout, uniform_from_bits
from t2t_vqem.ops.shapes import (
    Size,
    is_for_interpreter,
    reshaped,
    rounded_up,
    sizes,
    smaller,
)

if TYPE_CHECKING:  # hparams/ is a higher layer than models/
    from t2t_vqem.hparams.transformer_nat import TransformerNATHParams

# Lengths that the decoder is compiled for, in source lengths; a batch uses the next longer one. For
# a single sentence, a close length saves time. A batch nearly always has a long sentence, so more
# lengths would only make compilation slower.
_ALONE_LENGTHS = (0.75, 1.0, 1.25, 1.5)
_BATCH_LENGTHS = (1.25,)
RescoreFn = Callable[[tf.Tensor], tf.Tensor]  # int32 [N, T] -> float32 [N], nats


@registry.models.register()
class TransformerNAT(QuantizedModel, LatentTextModel, PairScoringModel):
    """Latent Transformer with vector-quantised latents (arXiv 1805.11063, section 5).

    In training the whole target is encoded, downsampled to one latent per 2^n_c tokens, and
    quantised. A decoder with full self-attention predicts all tokens in parallel from the latents
    and the source. A latent predictor predicts the latents from the source autoregressively, then
    EOS. So the predictor determines the length of a translation in latents; an EOS among the tokens
    of the last latent determines its exact end. An optional scorer, which learns to predict the
    target token by token from the same encoder, chooses among candidates.

    Shapes: B batch, n candidates of a sentence, N = B n rows, S source length, T target length,
    L = T / 2^n_c latents, D width, K codes, m samples, V vocabulary.
    """

    def __init__(self, hparams: TransformerNATHParams, *, vocab_size: int):
        """Makes the layers.

        Args:
          hparams: the hyperparameters.
          vocab_size: V, including PAD and EOS.
        """
        super().__init__(hparams)
        policy = self.dtype_policy
        width, filter_size = hparams.hidden_size, hparams.filter_size
        self.ratio = 2**hparams.num_halvings
        # Whole latents, the last of which may have tokens beyond the limit, and EOS after them.
        longest = hparams.max_length + MAX_EXTRA_LENGTH + POSITION_MULTIPLE
        self._position_limit = self._whole(longest) + 1
        self.embedding = TokenEmbedding(vocab_size, width, name="embedding", dtype=policy)
        self.encoder = self._stack(hparams.num_encoder_layers, "encoder")
        self.target_encoder = self._stack(hparams.num_target_encoder_layers, "target_encoder")
        lengths = {"dropout_rate": hparams.dropout, "dtype": policy}
        self.shorten = Shorten(hparams.num_halvings, width, filter_size, name="shorten", **lengths)
        self.to_latent = Dense(hparams.code_size, name="to_latent", dtype=policy)
        self.quantizer = make_quantizer(hparams, dtype=policy)
        self.from_latent = Dense(width, name="from_latent", dtype=policy)
        self.lengthen = Lengthen(
            hparams.num_halvings, width, filter_size, name="lengthen", **lengths
        )
        self.decoder = self._stack(hparams.num_decoder_layers, "decoder", cross_attention=True)
        self.predictor = LatentPredictor(
            hparams.num_codes,
            hparams.num_predictor_layers,
            width,
            position_limit=self._position_limit // self.ratio,
            dropout_rate=hparams.predictor_dropout,
            filter_size=filter_size,
            num_heads=hparams.num_heads,
            attention_dropout=hparams.attention_dropout,
            rematerialize=hparams.rematerialize,
            name="predictor",
            dtype=policy,
        )
        self.scorer = None
        if hparams.num_scorer_layers:
            sizes_of = {"width": width, "vocab_size": vocab_size, **self._layer_args()}
            self.scorer = Scorer(hparams.num_scorer_layers, name="scorer", **sizes_of)

    def _whole(self, length: Size) -> Size:
        """Rounds a length up to whole latents."""
        return rounded_up(length, self.ratio)

    def _stack(
        self, num_layers: int, name: str, *, cross_attention: bool = False
    ) -> TransformerStack:
        args = {"width": self.hparams.hidden_size, **self._layer_args()}
        return TransformerStack(num_layers, name=name, cross_attention=cross_attention, **args)

    def _layer_args(self) -> dict[str, Any]:
        hparams = self.hparams
        return {
            "filter_size": hparams.filter_size,
            "num_heads": hparams.num_heads,
            "residual_dropout": hparams.dropout,
            "attention_dropout": hparams.attention_dropout,
            "relu_dropout": hparams.relu_dropout,
            "rematerialize": hparams.rematerialize,
            "dtype": self.dtype_policy,
        }

    def example_batch(self) -> dict[str, tf.Tensor]:
        """Returns a batch of one row of two source and two target tokens."""
        ids = tf.ones([1, 2], tf.int32)
        return {"inputs": ids, "targets": ids}

    def token_variables(self) -> tuple[keras.Variable, ...]:
        """Returns the table of embeddings, which is also the output projection."""
        return (self.embedding.table,)

    def warm_start_path(self, path: str) -> str:
        """Initialises predictor and scorer with the first layers of a Transformer's decoder.

        The scorer also takes the norm after its last layer. The first layers are those that know
        embeddings as their input.
        """
        path = path.replace("scorer/stack/", "decoder/")
        return path.replace("predictor/stack/block_", "decoder/block_")

    @property
    def start_step(self) -> int:
        """The end of masking, when there are trained latent vectors to make codes from."""
        return self.hparams.masking_steps

    def start(self, batches: Iterator[dict[str, np.ndarray]], *, seed: int) -> None:
        """Sets the first codes by k-means++ over the latent vectors of the first batches."""

        def vectors_of(batch: dict[str, np.ndarray]) -> np.ndarray:
            vectors, mask = self._latent_vectors(self._padded(tf.constant(batch["targets"])))
            return tf.boolean_mask(vectors, mask).numpy()

        start_quantizer(self.quantizer, self.hparams, batches, vectors_of, seed=seed)

    def _with_positions(self, x: tf.Tensor, rng: Rng | None) -> tf.Tensor:
        positions = position_table(sizes(x)[1], self.hparams.hidden_size, self._position_limit)
        return dropout(x + tf.cast(positions, x.dtype), self.hparams.dropout, rng)

    def encode(self, inputs: tf.Tensor, rng: Rng | None = None) -> Source:
        """Encodes source ids int32 [B, S]."""
        bias = padding_bias(padding_mask(inputs))
        x = self._with_positions(self.embedding(inputs), rng)
        return Source(self.encoder(x, bias, rng=rng), bias)

    def _padded(self, targets: tf.Tensor) -> tf.Tensor:
        """Pads ids int32 [B, T] to a multiple of 2^n_c."""
        length = sizes(targets)[1]
        return tf.pad(targets, [[0, 0], [0, self._whole(length) - length]])

    def _latent_vectors(
        self, targets: tf.Tensor, rng: Rng | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes targets int32 [B, T] to vectors float32 [B, L, code_size] and their mask [B, L].

        Vectors are normalised to variance 1, so that they and the codebook cannot grow without
        limit.
        """
        mask = padding_mask(targets)
        x = self._with_positions(self.embedding(targets), rng)
        x = self.target_encoder(x, padding_bias(mask), rng=rng)
        x = tf.cast(self.to_latent(self.shorten(x, mask, rng=rng)), tf.float32)
        x -= tf.reduce_mean(x, -1, keepdims=True)
        x *= tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6)
        latent_mask = tf.reduce_any(tf.reshape(mask, [sizes(mask)[0], -1, self.ratio]), -1)
        return x, latent_mask

    def _decode_vectors(
        self,
        vectors: tf.Tensor,
        latent_mask: tf.Tensor,
        source: Source | ProjectedSource,
        rng: Rng | None = None,
        unmasked: _Unmasked | None = None,
    ) -> tf.Tensor:
        """The parallel decoder: vectors [N, L, code_size], mask [N, L] -> [N, T, D]."""
        x = self.lengthen(self.from_latent(vectors), rng=rng)
        if unmasked is not None:
            x = tf.where(unmasked.shown[..., None], unmasked.embedded, x)
        bias = padding_bias(self._mask_of_tokens(latent_mask))
        return self.decoder(self._with_positions(x, rng), bias, *source, rng=rng)

    def _mask_of_tokens(self, latent_mask: tf.Tensor) -> tf.Tensor:
        """Repeats the mask of latents bool [N, L] for the tokens of each: [N, T]."""
        if not is_for_interpreter():
            return tf.repeat(latent_mask, self.ratio, axis=1)
        mask = tf.expand_dims(latent_mask, -1) & tf.ones([self.ratio], tf.bool)
        num, length = sizes(latent_mask)
        return reshaped(mask, [num, length * self.ratio])

    def loss(self, batch: dict[str, tf.Tensor], rng: Rng | None = None) -> LossOutput:
        """Cross-entropy of tokens given latents and of latents, and commitment loss, in nats.

        And the scorer's loss, if there is one. Its gradient reaches encoder and embeddings too.

        Args:
          batch: "inputs" int32 [B, S] and "targets" int32 [B, T], both ending in EOS, then PAD.
          rng: randomness of training; None evaluates: nearest codes, no dropout.

        Returns:
          Loss: sum over the batch. Weight: real target tokens, including FILL. Metrics: "nll" (nats
          per token) and "accuracy" of tokens given the target's own latents; "latent_nll" (nats)
          and "latent_accuracy" of the predictor per latent, with EOS as a latent; "commitment" per
          latent; "scorer_nll" (nats) and "scorer_squared_log_z", (log Z)^2, per token, without
          FILL. Statistics: in training those of the quantiser, in evaluation the counts of the
          codes.
        """
        targets = self._padded(batch["targets"])
        source = self.encode(batch["inputs"], rng)
        vectors, mask = self._latent_vectors(targets, rng)
        prior = self.e_step_prior(rng, lambda ids: self.predictor.prior_states(ids, source))
        quantized = self.quantizer.quantize_vectors(vectors, mask, rng=rng, prior=prior)
        unmasked = self._unmasked(targets, rng)
        passed = quantized.vectors
        quantizes = 1.0
        if unmasked is not None:
            quantizes = tf.floor(self._masking_progress(rng))
            passed = tf.where(quantizes > 0, passed, tf.cast(vectors, passed.dtype))
        logits = self.embedding.logits(self._decode_vectors(passed, mask, source, rng, unmasked))
        tokens = token_cross_entropy(
            logits, targets, padding_mask(targets), self.hparams.label_smoothing
        )
        ids = quantized.ids[..., 0]
        drawn = ids[..., None] if quantized.samples is None else quantized.samples[..., 0, :]
        latents = self.predictor.loss(ids, drawn, mask, source, rng)
        statistics = quantized.statistics
        if rng is None:
            statistics = self.quantizer.usage(quantized.ids, mask)
        num_latents = tf.reduce_sum(tf.cast(mask, tf.float32))
        metrics = {
            "nll": (tokens.nll, tokens.weight),
            "accuracy": (tokens.correct, tokens.weight),
            "latent_nll": (latents.nll, latents.weight),
            "latent_accuracy": (latents.correct, latents.weight),
            "commitment": (quantized.loss, num_latents),
        }
        loss = tokens.loss + quantizes * (quantized.loss + latents.nll)
        if self.scorer is not None:
            scored = self._scorer_loss(batch["targets"], source, rng)
            metrics["scorer_nll"] = scored.nll, scored.weight
            metrics["scorer_squared_log_z"] = scored.squared_log_z, scored.weight
            log_z_loss = self.hparams.self_normalization * scored.squared_log_z
            loss += self.hparams.scorer_weight * (scored.loss + log_z_loss)
        return LossOutput(loss, tokens.weight, metrics, statistics)

    def _scorer_loss(self, targets: tf.Tensor, source: Source, rng: Rng | None) -> TokenLoss:
        """Computes the scorer's loss for the text as `infer` returns it, without FILL."""
        if self.hparams.whole_words:
            targets = candidates.without_fill(targets)
        return self.scorer.loss(
            self._before(targets, rng),
            targets,
            *source,
            self.embedding,
            label_smoothing=self.hparams.label_smoothing,
            rng=rng,
        )

    def _before(self, tokens: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        """Embeds the token before each of int32 [N, T]; PAD stands before the first."""
        shifted = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
        return self._with_positions(self.embedding(shifted), rng)

    def _masking_progress(self, rng: Rng) -> tf.Tensor:
        """float32 scalar, from 0 to 1 in the first `masking_steps` updates."""
        update = tf.cast(rng.step, tf.float32) // self.hparams.accumulate_steps
        return tf.minimum(update / self.hparams.masking_steps, 1.0)

    def _unmasked(self, targets: tf.Tensor, rng: Rng | None) -> _Unmasked | None:
        """Returns the part of the target that the decoder sees; None without masking.

        A growing share of the target is masked, where the decoder sees latents instead (arXiv
        1805.11063, section 5). Until all of it is masked, latents are not quantised: at first the
        decoder barely needs them, and the commitment loss would collapse them to one point.
        """
        if rng is None or not self.hparams.masking_steps:
            return None
        shown = uniform_from_bits(rng.bits(targets.shape)) >= self._masking_progress(rng)
        return _Unmasked(shown, self.embedding(targets))

    def infer(
        self,
        inputs: tf.Tensor,
        options: DecodeOptions,
        *,
        max_length: Size,
        seed: int | tf.Tensor = 0,
        row_ids: tf.Tensor | None = None,
        settings: SearchSettings | None = None,
        rescorer: Any = None,
    ) -> Decoded:
        """Translates source ids: searches latents, then takes the most probable token everywhere.

        Among several candidates, the best one has the highest log-probability divided by the length
        penalty. The log-probability is that of the rescorer, or else of the model's scorer, both of
        the tokens returned, or else the model's own, of latents and tokens.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          options: the decoding options. A row has at most source length + `options.extra_length`
            tokens, including FILL, rounded up to whole latents.
          max_length: number of output positions, including EOS.
          seed: seed of sampling.
          row_ids: int32 [B]; the samples of a row depend on the seed and its id (default: index).
          settings: settings of the search that replace those of the options.
          rescorer: a model with `encode` and `score`, such as `transformer`.

        Returns:
          tokens int32 [B * num_best, max_length], PAD after EOS, their scores float32
          [B * num_best], and the other fields; rows b*num_best ... belong to sentence b.

        Raises:
          UsageError: `num_best` is greater than `num_candidates`.
        """
        if options.num_best > options.num_candidates:
            raise UsageError(
                f"num_best {options.num_best}: transformer_nat returns the best of its candidates, "
                f"expected at most num_candidates, {options.num_candidates}."
            )
        settings = settings or options.settings
        rows = row_ids if row_ids is not None else tf.range(sizes(inputs)[0])
        source = self.encode(inputs)
        latents = self._search(
            inputs, source, options, settings, max_length, seed=seed, row_ids=rows
        )
        num = options.num_candidates
        translate = functools.partial(
            self._translate,
            latents,
            source.project(self.decoder, num),
            options,
            settings,
            self._rescore_fn(inputs, source, num, rescorer),
        )
        longest = tf.reduce_max(latents.counts)
        if inputs.shape.is_fully_defined() and isinstance(max_length, int):
            lengths = self._decoder_lengths(inputs.shape, latents.ids.shape[1])
            branch = tf.reduce_sum(tf.cast(longest > tf.constant(lengths[:-1], tf.int32), tf.int32))
            branches = [functools.partial(translate, max_length, length) for length in lengths]
            found = tf.switch_case(branch, branches)
        else:
            longest = tf.maximum(longest, 1)
            found = translate(smaller(max_length, longest * self.ratio + 1), longest)
        if num == 1:
            return found
        chosen = candidates.best_candidates(found.scores, num, options.num_best)
        return tf.nest.map_structure(lambda x: tf.gather(x, chosen), found)

    def _rescore_fn(
        self, inputs: tf.Tensor, source: Source, num_candidates: int, rescorer: Any
    ) -> RescoreFn | None:
        """Returns what scores the candidates; None for the model's own log-probability."""
        if rescorer:
            scored = Source(*rescorer.encode(inputs)).repeat(num_candidates)
            return functools.partial(rescorer.score, memory=scored.memory, memory_bias=scored.bias)
        if self.scorer is None or num_candidates == 1:
            return None
        projected = source.project(self.scorer.stack, num_candidates)
        return lambda x: self.scorer.score(self._before(x), x, *projected, self.embedding)

    def _search(
        self,
        inputs: tf.Tensor,
        source: Source,
        options: DecodeOptions,
        settings: SearchSettings,
        max_length: Size,
        *,
        seed: int | tf.Tensor,
        row_ids: tf.Tensor,
    ) -> Latents:
        """Predicts latents until the predictor ends them: rows for all candidates."""
        source_lengths = num_tokens(inputs)
        limits = tf.minimum(source_lengths + settings.extra_length, max_length)
        limits = -(-limits // self.ratio)
        limits = tf.where(source_lengths > 0, limits, 0)  # 0 for rows that only pad the batch
        length = -(-max_length // self.ratio)
        return search_latents(
            lambda times: self.predictor.step_fn(source, length, times),
            limits,
            options,
            settings,
            max_length=length,
            seed=seed,
            row_ids=row_ids,
        )

    def _translate(
        self,
        latents: Latents,
        source: Source | ProjectedSource,
        options: DecodeOptions,
        settings: SearchSettings,
        rescore: RescoreFn | None,
        max_length: Size,
        length: Size,
    ) -> Decoded:
        """Translates from latents, at most `length` in each row.

        Returns:
          Translations of `max_length` positions, one for each row.
        """
        found = self._decode_latents(latents, length, source, keep_repeats=options.keep_repeats)
        num, scores = options.num_candidates, found.scores
        if rescore:
            scores = rescore(found.placed.tokens)
        elif num > 1:
            scores += latents.scores
        if num > 1:
            counts = num_tokens(found.placed.tokens)
            scores /= length_penalty(counts, settings.alpha)
            # Beam search may find fewer candidates than requested, but always finds the first.
            is_first = tf.range(sizes(counts)[0]) % num == 0
            scores = tf.where((counts > 0) | is_first, scores, MASKED)
        placed = found.placed.fit(max_length)
        raw = found.raw.fit(self._whole(max_length) + 1)
        return Decoded(
            tokens=placed.tokens,
            scores=scores,
            log_probs=placed.log_probs,
            codes=latents.ids,
            num_repeats=found.num_repeats,
            latents=placed.latents,
            raw_tokens=raw.tokens,
            raw_log_probs=raw.log_probs,
        )

    def _decoder_lengths(self, shape: tf.TensorShape, most: int) -> list[int]:
        """Returns the numbers of latents for which the decoder is compiled, in ascending order.

        Args:
          shape: shape of the source ids, [B, S].
          most: the largest number of latents.
        """
        shares = _ALONE_LENGTHS if shape[0] == 1 else _BATCH_LENGTHS
        usual = {max(1, round(share * shape[1] / self.ratio)) for share in shares}
        return sorted({length for length in usual if length < most} | {most})

    def _decode_latents(
        self,
        latents: Latents,
        length: Size,
        source: Source | ProjectedSource,
        *,
        keep_repeats: bool,
    ) -> _Made:
        """Decodes all tokens of latents, at most `length` in each row."""
        ids = latents.ids[:, :length]
        vectors = self.quantizer.decode(tf.expand_dims(tf.maximum(ids, 0), -1))
        x = self._decode_vectors(vectors, ids >= 0, source)
        embedding = self.embedding
        tokens, log_probs = candidates.choose_tokens(
            embedding.logits, x, embedding.vocab_size, longest=self._position_limit
        )
        # An EOS after the last latent is not predicted by the decoder: its probability is 1.
        raw = candidates.end_at_eos(tokens, log_probs, latents.counts, self.ratio)
        placed = candidates.remove_fill(raw) if self.hparams.whole_words else raw
        num_repeats = tf.zeros_like(latents.counts)
        if not keep_repeats:
            placed, num_repeats = candidates.remove_repeats(placed)
        return _Made(raw, placed, tf.reduce_sum(raw.log_probs, 1), num_repeats)

    def decode_codes(self, inputs: tf.Tensor, codes: tf.Tensor) -> Decoded:
        """Translates with given latents.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          codes: int32 [B, L], -1 after the last code of a row.
        """
        counts = tf.reduce_sum(tf.cast(codes >= 0, tf.int32), 1)
        source = self.encode(inputs)
        latents = Latents(codes, counts, tf.zeros_like(counts, tf.float32))
        length = sizes(codes)[1]
        options = DecodeOptions()
        return self._translate(
            latents, source, options, options.settings, None, length * self.ratio + 1, length
        )

    def score_pairs(self, inputs: tf.Tensor, targets: tf.Tensor) -> Scored:
        """Scores given translations, with the latents that the target encoder computes for them.

        The score of a pair is the log-probability of these latents, of EOS and of the tokens. This
        is how `infer` scores its candidates without a scorer, but without length penalty. A scorer
        changes nothing here: its score is not exactly a log-probability, and does not add up from
        tokens and latents.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          targets: int32 [B, T], likewise; in groups if the hparams have `whole_words`.
        """
        length = sizes(targets)[1]
        vectors, mask = self._latent_vectors(self._padded(targets))
        ids = self.quantizer.quantize_vectors(vectors, mask).ids[..., 0]
        counts = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
        source = self.encode(inputs)
        code_log_probs = self.predictor.log_probs(ids, counts, source)
        x = self._decode_vectors(self.quantizer.decode(tf.expand_dims(ids, -1)), mask, source)
        embedding = self.embedding
        log_probs = candidates.log_probs_of(
            targets,
            lambda x: mask_padding_token(embedding.logits(x)),
            x[:, :length],
            embedding.vocab_size,
        )
        log_probs = tf.where(padding_mask(targets), log_probs, 0.0)
        return Scored(
            scores=tf.reduce_sum(log_probs, 1) + tf.reduce_sum(code_log_probs, 1),
            log_probs=log_probs,
            codes=tf.where(mask, ids, -1),
            code_log_probs=code_log_probs,
        )

    def reconstruct(self, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Translates with the latents of the references, which measures the bottleneck's loss.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          targets: int32 [B, T], likewise.

        Returns:
          int32 [B, T' + 1], T' being T rounded up to whole latents; PAD after EOS.
        """
        vectors, mask = self._latent_vectors(self._padded(targets))
        ids = self.quantizer.quantize_vectors(vectors, mask).ids[..., 0]
        return self.decode_codes(inputs, tf.where(mask, ids, -1)).tokens


class _Made(NamedTuple):
    """The output of the parallel decoder."""

    raw: candidates.Placed  # all decoded tokens up to EOS
    placed: candidates.Placed  # the remaining tokens after removals
    scores: tf.Tensor  # float32 [N], log-probability of all decoded tokens, including FILL
    num_repeats: tf.Tensor  # int32 [N], repeated tokens that were removed


class _Unmasked(NamedTuple):
    """The part of the target that the decoder sees during the masking phase of training."""

    shown: tf.Tensor  # bool [B, T], True for the tokens that it sees
    embedded: tf.Tensor  # [B, T, D], embeddings of the target
