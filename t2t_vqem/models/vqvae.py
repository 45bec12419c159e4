"""The VQ-VAE: images as grids of discrete codes, and a prior over these codes for sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.capabilities import ImageModel
from t2t_vqem.constants import FIRST_CODE, UsageError
from t2t_vqem.decoding.code_search import search_codes
from t2t_vqem.decoding.greedy import decode
from t2t_vqem.decoding.sampling import sampler
from t2t_vqem.layers.code_prior import CodePrior
from t2t_vqem.layers.convolution import ConvDecoder, ConvEncoder
from t2t_vqem.layers.encoding_passes import EncodingPasses
from t2t_vqem.layers.vector_quantizer import PriorStates
from t2t_vqem.metrics.images import psnr, ssim
from t2t_vqem.models.base import LossOutput
from t2t_vqem.models.bottleneck import QuantizedModel, make_quantizer, start_quantizer
from t2t_vqem.ops.likelihoods import gaussian_nats, num_parameters, pixel_log_prob, pixel_mean
from t2t_vqem.ops.losses import token_cross_entropy
from t2t_vqem.ops.masks import MASKED
from t2t_vqem.ops.random import Rng
from t2t_vqem.ops.shapes import Size

if TYPE_CHECKING:  # hparams/ is a higher layer than models/
    from t2t_vqem.hparams.vqvae import VQVAEHParams


@registry.models.register()
class VQVAE(QuantizedModel, ImageModel):
    """VQ-VAE (van den Oord et al. 2017) with a Transformer as the prior over its codes.

    The autoencoder and the prior are trained at the same time, but independently: codes are
    integers, so no gradient of the prior's loss reaches the autoencoder. The distribution of pixels
    is a discretised mixture of logistics.

    A likelihood rewards calibrated predictions of each pixel, not accurate images: errors in
    uncertain regions cost little, and information that the channels share counts once. So the loss
    can include the squared error of the mean image, also in nats: the likelihood of a Gaussian with
    the same variance everywhere in an image.

    Shapes: B batch, H height, W width, ch channels, h and w height and width of the latent grid,
    L = h w, D width of a latent vector, C codebooks, K codes of each codebook.
    """

    def __init__(self, hparams: VQVAEHParams, *, image_shape: tuple[int, int, int]):
        """Makes the layers.

        Args:
          hparams: the hyperparameters.
          image_shape: (H, W, ch).

        Raises:
          UsageError: height or width is not a multiple of 2^num_downsamplings.
        """
        super().__init__(hparams)
        self.image_shape = height, width, channels = tuple(image_shape)
        block = 2**hparams.num_downsamplings
        if height % block or width % block:
            most = (math.gcd(height, width) & -math.gcd(height, width)).bit_length() - 1
            lower = f"Set num_downsamplings to {most} at most, or let" if most else "Let"
            raise UsageError(
                f"num_downsamplings={hparams.num_downsamplings} with images of {height}x{width}: "
                f"expected height and width to be multiples of {block}. {lower} the problem make "
                f"images of another size"
            )
        self.field = height // block, width // block
        self.num_latents = math.prod(self.field)
        convolutions = {
            "channels": hparams.hidden_size,
            "num_blocks": hparams.num_residual_blocks,
            "residual_channels": hparams.residual_size,
            "dtype": self.dtype_policy,
        }
        self.encoder = ConvEncoder(
            hparams.code_size,
            num_downsamplings=hparams.num_downsamplings,
            name="encoder",
            **convolutions,
        )
        self.turns = None  # named as in stored checkpoints
        if hparams.encoding_turns > 1:
            self.turns = EncodingPasses(
                hparams.code_size,
                num_passes=hparams.encoding_turns,
                name="turns",
                **(convolutions | {"num_blocks": 1}),
            )
        self.decoder = ConvDecoder(
            num_parameters(channels, hparams.num_mixtures),
            num_upsamplings=hparams.num_downsamplings,
            name="decoder",
            **convolutions,
        )
        self.quantizer = make_quantizer(hparams, dtype=self.dtype_policy)
        self.prior = CodePrior(
            hparams.num_codes,
            hparams.num_codebooks,
            self.num_latents,
            num_layers=hparams.prior_layers,
            width=hparams.prior_size,
            filter_size=hparams.prior_filter_size,
            num_heads=hparams.prior_heads,
            dropout_rate=hparams.prior_dropout,
            name="prior",
            dtype=self.dtype_policy,
        )

    def example_batch(self) -> dict[str, tf.Tensor]:
        """Returns a batch of one black image."""
        return {
            "images": tf.zeros([1, *self.image_shape], tf.uint8),
            "mask": tf.ones([1], tf.bool),
        }

    @property
    def progress_unit(self) -> tuple[str, int]:
        """Images; see `loss` for their weight."""
        return "images", math.prod(self.image_shape)

    def start(self, batches: Iterator[dict[str, np.ndarray]], *, seed: int) -> None:
        """Sets the first codes by k-means++ over the latent vectors of the first batches."""

        def vectors_of(batch: dict[str, np.ndarray]) -> np.ndarray:
            images = tf.constant(batch["images"][batch["mask"]])
            return self.encode(images).numpy().reshape(-1, self.hparams.code_size)

        start_quantizer(self.quantizer, self.hparams, batches, vectors_of, seed=seed)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Encodes uint8 [B, H, W, ch] to latent vectors float32 [B, h, w, D], not quantised."""
        scaled = tf.cast(images, tf.float32) / 127.5 - 1
        scaled = tf.cast(scaled, self.compute_dtype)
        latents, features = self.encoder(scaled, with_features=True)
        if self.turns is not None:
            latents = self.turns(
                features, latents, quantize=lambda x: self.quantizer.quantize_vectors(x).vectors
            )
        return tf.cast(latents, tf.float32)

    def loss(self, batch: dict[str, tf.Tensor], rng: Rng | None = None) -> LossOutput:
        """Negative log-likelihood of pixels given codes, and of codes, with auxiliary losses.

        The auxiliary losses are `squared_error_weight` times the nats of the mean images under a
        Gaussian (`gaussian_nats`) and, in training, the commitment loss. The latter grows with the
        scale of the latent vectors and does not measure the quality of the model.

        Args:
          batch: "images" uint8 [B, H, W, ch]; "mask" bool [B], False for a row without an image; in
            evaluation optionally "codes" int32 [B, L, C], which replace the nearest codes.
          rng: randomness of training; None evaluates: nearest codes, no dropout.

        Returns:
          Loss: sum over the images, in nats. Weight: number of dimensions (pixels times channels).
          Metrics per dimension: "bits_per_dim", an upper bound on the bits of an image, its parts
          "reconstruction_bits" and "prior_bits"; "uniform_prior_bits", the bits of the codes under
          a uniform prior, and "bits_per_dim_uniform", the bound with that prior. Metrics per image:
          "rate" (bits of the codes under the prior), "psnr" (dB), in evaluation "ssim". Metric per
          latent vector: "commitment", for the nearest codes. Statistics: in training those of the
          quantiser, in evaluation the counts of the codes.
        """
        images, mask = batch["images"], batch["mask"]
        field_mask = tf.broadcast_to(mask[:, None, None], [mask.shape[0], *self.field])
        prior = self.e_step_prior(rng, self._prior_states)
        quantized = self.quantizer.quantize_vectors(
            self.encode(images), field_mask, rng=rng, prior=prior
        )
        if "codes" in batch:
            ids = tf.reshape(batch["codes"], quantized.ids.shape)
            quantized = quantized._replace(ids=ids, vectors=self.quantizer.decode(ids))
        parameters = self.decoder(quantized.vectors)
        ids = tf.reshape(quantized.ids, [images.shape[0], self.num_latents, -1])
        reconstruction = _masked_sum(-pixel_log_prob(parameters, images), mask)
        prior = self._prior_nats(ids, mask, rng)
        num_images = tf.reduce_sum(tf.cast(mask, tf.float32))
        dims = num_images * math.prod(self.image_shape)
        uniform = num_images * (ids.shape[1] * ids.shape[2] * math.log(self.hparams.num_codes))
        means = pixel_mean(parameters, self.image_shape[-1])
        decoded = _as_bytes(tf.stop_gradient(means))
        nats = {
            "bits_per_dim": (reconstruction + prior, dims),
            "reconstruction_bits": (reconstruction, dims),
            "prior_bits": (prior, dims),
            "uniform_prior_bits": (uniform, dims),
            "bits_per_dim_uniform": (reconstruction + uniform, dims),
            "rate": (prior, num_images),
        }
        metrics = {name: (value / math.log(2), weight) for name, (value, weight) in nats.items()}
        metrics["psnr"] = (_masked_sum(psnr(images, decoded), mask), num_images)
        metrics["commitment"] = (quantized.loss, num_images * self.num_latents)
        statistics = quantized.statistics
        if rng is None:
            metrics["ssim"] = (_masked_sum(ssim(images, decoded), mask), num_images)
            statistics = self.quantizer.usage(quantized.ids, field_mask)
        loss = reconstruction + prior
        if rng is not None:
            loss += quantized.loss
        if self.hparams.squared_error_weight:
            squared_error = _masked_sum(gaussian_nats(means, images), mask)
            loss += self.hparams.squared_error_weight * squared_error
        return LossOutput(loss, dims, metrics, statistics)

    def _prior_states(self, ids: tf.Tensor) -> PriorStates:
        """Returns the states that predict each code of int32 [B, h, w, C]."""
        flat = tf.reshape(ids, [ids.shape[0], self.num_latents, -1])
        found = self.prior.prior_states(flat)
        states = tf.reshape(found.states, [*ids.shape, found.states.shape[-1]])
        return found._replace(states=states)

    def _prior_nats(self, ids: tf.Tensor, mask: tf.Tensor, rng: Rng | None) -> tf.Tensor:
        """Minus log-probability of codes int32 [B, L, C] under the prior, summed over images."""
        batch, num_latents, num_codebooks = ids.shape
        length = num_latents * num_codebooks
        logits = tf.reshape(self.prior(ids, rng=rng), [batch, length, self.hparams.num_codes])
        real = tf.broadcast_to(mask[:, None], [batch, length])
        return token_cross_entropy(logits, tf.reshape(ids, [batch, length]), real, 0.0).nll

    def encode_to_codes(self, images: tf.Tensor, *, search_passes: int = 0) -> tf.Tensor:
        """Encodes uint8 [B, H, W, ch] to codes int32 [B, L, C], in row-major order.

        These are the codes nearest to the latent vectors; with `search_passes`, a search replaces
        them by codes that reconstruct the images more accurately (`decoding.code_search`).
        """
        ids = self.quantizer.quantize_vectors(self.encode(images)).ids
        if search_passes:
            ids = search_codes(
                images,
                ids,
                codebooks=self.quantizer.codebooks,
                steps=tf.sqrt(self.quantizer.distance),
                decode=self._mean_images,
                num_passes=search_passes,
                residual=self.quantizer.options.residual,
            )
        return tf.reshape(ids, [-1, self.num_latents, self.hparams.num_codebooks])

    def decode_codes(self, ids: tf.Tensor) -> tf.Tensor:
        """Decodes int32 [B, L, C] to the mean image uint8 [B, H, W, ch]."""
        field = tf.reshape(ids, [-1, *self.field, self.hparams.num_codebooks])
        return _as_bytes(self._mean_images(self.quantizer.decode(field)))

    def _mean_images(self, vectors: tf.Tensor) -> tf.Tensor:
        """Decodes vectors [B, h, w, D] to float32 [B, H, W, ch]."""
        vectors = tf.cast(vectors, self.compute_dtype)
        return pixel_mean(self.decoder(vectors), self.image_shape[-1])

    def reconstruct(self, images: tf.Tensor) -> tf.Tensor:
        """Encodes and decodes uint8 [B, H, W, ch]."""
        return self.decode_codes(self.encode_to_codes(images))

    def sample_codes(
        self,
        num: Size,
        *,
        temperature: float | tf.Tensor,
        top_k: int | tf.Tensor,
        seed: int | tf.Tensor,
        row_ids: tf.Tensor,
    ) -> tf.Tensor:
        """Draws codes from the prior.

        Args:
          num: B.
          temperature: above 0; 1 draws from the prior itself.
          top_k: draw only among the k most probable codes; 0: all.
          seed: scalar int.
          row_ids: int32 [B]; a row depends only on the seed and its id.

        Returns:
          int32 [B, L, C].
        """
        hparams = self.hparams
        length = self.num_latents * hparams.num_codebooks
        masked = tf.fill([num, FIRST_CODE], MASKED)

        def step(tokens, position, cache):
            logits, cache = self.prior.step(tokens - FIRST_CODE, position, cache)
            return tf.concat([masked, logits], 1), cache

        decoded = decode(
            step,
            self.prior.empty_cache(num),
            tf.fill([num], length),
            max_length=length,
            choose_fn=sampler(temperature, top_k, seed=seed, row_ids=row_ids),
        )
        ids = decoded.tokens - FIRST_CODE
        return tf.reshape(ids, [num, self.num_latents, hparams.num_codebooks])


def _as_bytes(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(images), tf.uint8)


def _masked_sum(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sums float32 [B] over the rows that hold an image."""
    return tf.reduce_sum(tf.where(mask, values, 0.0))
