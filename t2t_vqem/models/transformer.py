"""The autoregressive Transformer, teacher and baseline of the latent models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.capabilities import PairScoringModel, ScoringModel, TokenModel
from t2t_vqem.constants import MAX_EXTRA_LENGTH, PAD_ID, UsageError
from t2t_vqem.decoding import candidates
from t2t_vqem.decoding.beam import beam_search
from t2t_vqem.decoding.greedy import POSITION_MULTIPLE, Decoded, Scored, StepFn, decode
from t2t_vqem.decoding.options import DecodeOptions, SearchSettings
from t2t_vqem.decoding.prefix import begin_with, prefix_mask
from t2t_vqem.decoding.sampling import sampler
from t2t_vqem.layers.common import TokenEmbedding, position_table
from t2t_vqem.layers.transformer import TransformerStack
from t2t_vqem.models.base import LossOutput, Model
from t2t_vqem.ops.losses import token_cross_entropy
from t2t_vqem.ops.masks import (
    causal_bias,
    mask_padding_token,
    num_tokens,
    padding_bias,
    padding_mask,
)
from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import Size, rounded_up, sizes, smaller

if TYPE_CHECKING:  # hparams/ is a higher layer than models/
    from t2t_vqem.hparams.transformer import TransformerHParams


@registry.models.register()
class Transformer(Model, TokenModel, ScoringModel, PairScoringModel):
    """Encoder-decoder Transformer (Vaswani et al. 2017), pre-norm, all embeddings shared.

    The hparams set the depths of encoder and decoder separately, for example a deep encoder with a
    shallow decoder (Kasai et al. 2021). Shapes: B batch, S source length, T target length, D width,
    V vocabulary.
    """

    def __init__(self, hparams: TransformerHParams, *, vocab_size: int):
        """Makes the layers.

        Args:
          hparams: the hyperparameters.
          vocab_size: V, including PAD and EOS.
        """
        super().__init__(hparams)
        policy = self.dtype_policy
        self.embedding = TokenEmbedding(
            vocab_size, hparams.hidden_size, name="embedding", dtype=policy
        )
        args = {
            "width": hparams.hidden_size,
            "filter_size": hparams.filter_size,
            "num_heads": hparams.num_heads,
            "residual_dropout": hparams.dropout,
            "attention_dropout": hparams.attention_dropout,
            "relu_dropout": hparams.relu_dropout,
            "rematerialize": hparams.rematerialize,
            "dtype": policy,
        }
        self.encoder = TransformerStack(hparams.num_encoder_layers, name="encoder", **args)
        self.decoder = TransformerStack(
            hparams.num_decoder_layers, name="decoder", cross_attention=True, **args
        )

    def example_batch(self) -> dict[str, tf.Tensor]:
        """Returns a batch of one row of two source and two target tokens."""
        ids = tf.ones([1, 2], tf.int32)
        return {"inputs": ids, "targets": ids}

    def token_variables(self) -> tuple[keras.Variable, ...]:
        """Returns the table of embeddings, which is also the output projection."""
        return (self.embedding.table,)

    def _positions(self, length: Size) -> tf.Tensor:
        limit = self.hparams.max_length + MAX_EXTRA_LENGTH + POSITION_MULTIPLE
        return tf.convert_to_tensor(position_table(length, self.hparams.hidden_size, limit))

    def _with_positions(self, x: tf.Tensor) -> tf.Tensor:
        return x + tf.cast(self._positions(sizes(x)[1]), x.dtype)

    def encode(self, inputs: tf.Tensor, rng: Rng | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes source ids int32 [B, S] to a memory [B, S, D] and its attention bias."""
        bias = padding_bias(padding_mask(inputs))
        x = dropout(self._with_positions(self.embedding(inputs)), self.hparams.dropout, rng)
        return self.encoder(x, bias, rng=rng), bias

    def loss(self, batch: dict[str, tf.Tensor], rng: Rng | None = None) -> LossOutput:
        """Label-smoothed cross-entropy of the targets, summed over real target tokens, in nats.

        Args:
          batch: "inputs" int32 [B, S] and "targets" int32 [B, T], both ending in EOS, then PAD.
          rng: randomness of dropout; None evaluates.

        Returns:
          Loss, weight (real target tokens), metrics "nll" (nats per token) and "accuracy".
        """
        targets = batch["targets"]
        memory, memory_bias = self.encode(batch["inputs"], rng)
        shifted = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
        x = dropout(self._with_positions(self.embedding(shifted)), self.hparams.dropout, rng)
        x = self.decoder(x, causal_bias(sizes(targets)[1]), memory, memory_bias, rng=rng)
        sums = token_cross_entropy(
            self.embedding.logits(x), targets, padding_mask(targets), self.hparams.label_smoothing
        )
        metrics = {"nll": (sums.nll, sums.weight), "accuracy": (sums.correct, sums.weight)}
        return LossOutput(sums.loss, sums.weight, metrics)

    def score(self, targets: tf.Tensor, memory: tf.Tensor, memory_bias: tf.Tensor) -> tf.Tensor:
        """Log-probability of translations int32 [N, T], including EOS, in nats: float32 [N].

        Memory and bias are the results of `encode` for the sources, a row for each translation.
        """
        return tf.reduce_sum(self._log_probs(targets, memory, memory_bias, lambda x: x), 1)

    def _log_probs(
        self,
        targets: tf.Tensor,
        memory: tf.Tensor,
        memory_bias: tf.Tensor,
        mask: Callable[[tf.Tensor], tf.Tensor],
    ) -> tf.Tensor:
        """Returns the log-probability of each token, float32 [N, T], from masked logits."""
        shifted = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
        x = self._with_positions(self.embedding(shifted))
        x = self.decoder(x, causal_bias(sizes(targets)[1]), memory, memory_bias)
        embedding = self.embedding
        chosen = candidates.log_probs_of(
            targets, lambda x: mask(embedding.logits(x)), x, embedding.vocab_size
        )
        return tf.where(padding_mask(targets), chosen, 0.0)

    def score_pairs(self, inputs: tf.Tensor, targets: tf.Tensor) -> Scored:
        """Scores given translations as `infer` scores its own.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          targets: int32 [B, T], likewise.
        """
        log_probs = self._log_probs(targets, *self.encode(inputs), mask_padding_token)
        return Scored(tf.reduce_sum(log_probs, 1), log_probs)

    def attention_weights(self, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns the mean over heads of the last but one decoder layer's attention to the source.

        Of all layers that one corresponds best to word alignments (Garg et al. 2019). A decoder of
        one layer has only that.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          targets: int32 [B, T], likewise.

        Returns:
          float32 [B, T, S]; row t is the attention when token t is predicted.
        """
        memory, memory_bias = self.encode(inputs)
        shifted = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
        x = self._with_positions(self.embedding(shifted))
        layer = max(0, len(self.decoder.blocks) - 2)
        bias = causal_bias(sizes(targets)[1])
        return self.decoder.attention_weights(x, bias, memory, memory_bias, layer)

    def step_fn(
        self,
        inputs: tf.Tensor,
        max_length: Size,
        *,
        num_hypotheses: int = 1,
        cache_length: Size | None = None,
    ) -> tuple[StepFn, list]:
        """Encodes the sources and makes the function that computes one decoding step.

        Args:
          inputs: int32 [B, S].
          max_length: the largest number of target positions.
          num_hypotheses: number of hypotheses for each sentence; rows b*num_hypotheses ... belong
            to sentence b.
          cache_length: initial number of target positions in the cache; default: max_length.

        Returns:
          `step(tokens [N], position, cache) -> (logits float32 [N, V], cache)` with N = B *
          num_hypotheses, and the empty cache.
        """
        memory, memory_bias = self.encode(inputs)
        if num_hypotheses > 1:
            memory_bias = tf.repeat(memory_bias, num_hypotheses, axis=0)
        memories = self.decoder.project_memory(memory, num_hypotheses)
        positions = self._positions(max_length)

        def step(tokens, position, cache):
            x = tf.expand_dims(self.embedding(tokens), 1)
            x += tf.cast(tf.gather(positions, position), x.dtype)
            x, cache = self.decoder.step(x, cache, position, memories, memory_bias)
            return mask_padding_token(self.embedding.logits(tf.squeeze(x, 1))), cache

        rows = sizes(inputs)[0] * num_hypotheses
        cache_length = max_length if cache_length is None else cache_length
        cache = self.decoder.empty_cache(rows, cache_length)
        return step, cache

    def infer(
        self,
        inputs: tf.Tensor,
        options: DecodeOptions,
        *,
        max_length: Size,
        seed: int | tf.Tensor = 0,
        row_ids: tf.Tensor | None = None,
        settings: SearchSettings | None = None,
        prefix: tf.Tensor | None = None,
    ) -> Decoded:
        """Translates source ids by greedy search, beam search or sampling.

        Args:
          inputs: int32 [B, S], each ending in EOS, then PAD.
          options: the decoding options. A row has at most source length + `options.extra_length`
            tokens.
          max_length: number of output positions, including EOS.
          seed: seed of sampling.
          row_ids: int32 [B]; the samples of a row depend on the seed and its id (default: index).
          settings: settings of the search that replace those of the options.
          prefix: int32 [B, P], tokens that each translation begins with, then PAD. They count in
            the score like others. A row with a prefix that is longer than the source has at most
            `options.extra_length` more tokens than that.

        Returns:
          tokens int32 [B * num_best, max_length], PAD after EOS, and scores float32 [B * num_best];
          rows b*num_best ... belong to sentence b.
        """
        if options.num_best > options.beam_size:
            raise UsageError(
                f"num_best {options.num_best}: expected at most beam_size, {options.beam_size}."
            )
        settings = settings or options.settings
        source_lengths = num_tokens(inputs)
        lengths_before = source_lengths
        if prefix is not None:
            lengths_before = tf.maximum(source_lengths, num_tokens(prefix))
        limits = tf.minimum(lengths_before + settings.extra_length, max_length)
        limits = tf.where(source_lengths > 0, limits, 0)  # 0 for rows that only pad the batch
        # Most translations are at most a quarter longer than their source.
        usual = rounded_up(-(-(5 * sizes(inputs)[1] + 16) // 4), POSITION_MULTIPLE)
        first_length = smaller(usual, max_length)
        step, cache = self.step_fn(
            inputs, max_length, num_hypotheses=options.beam_size, cache_length=first_length
        )
        lengths = {"max_length": max_length, "first_length": first_length}
        if options.beam_size > 1:
            sizes_of = {"num_best": options.num_best, **lengths}
            if prefix is not None:
                sizes_of["mask_fn"] = prefix_mask(prefix, options.beam_size)
            return beam_search(step, cache, limits, options.beam_size, settings.alpha, **sizes_of)
        choose = None
        if settings.samples:
            if row_ids is None:
                row_ids = tf.range(sizes(inputs)[0])
            choose = sampler(settings.temperature, settings.top_k, seed=seed, row_ids=row_ids)
        if prefix is not None:
            choose = begin_with(prefix, choose)
        return decode(step, cache, limits, choose_fn=choose, **lengths)
