"""The VQ-VAE: its hyperparameters and its sets.

A set lists only what differs from the defaults of the class, or from the set that it builds on.
`t2t-trainer --registry_help=vqvae_cifar10` shows all values of a set.
"""

import dataclasses

from t2t_vqem.config import BottleneckHParams, HParams, option
from t2t_vqem.constants import UsageError
from t2t_vqem.registry import hparams_sets, model_hparams


@model_hparams.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class VQVAEHParams(BottleneckHParams, HParams):
    """VQ-VAE (van den Oord et al., 2017) with a Transformer as the prior over its codes."""

    hidden_size: int = option(128, "channels of the convolutions", minimum=1)
    num_downsamplings: int = option(
        2,
        "how many times height and width are halved, from the image to the latent grid",
        minimum=1,
    )
    num_residual_blocks: int = option(
        2, "residual blocks in the encoder, and in the decoder", minimum=0
    )
    residual_size: int = option(64, "channels inside a residual block", minimum=1)
    encoding_turns: int = option(
        1,
        "number of passes in which the latent grid is encoded. Each pass encodes a part of the "
        "grid, given the codes of earlier passes, which makes reconstructions more accurate; each "
        "additional pass costs a convolution and a residual block",
        choices=(1, 2, 4),
    )
    num_mixtures: int = option(
        5, "number of logistic distributions in the mixture for each pixel", minimum=1
    )
    squared_error_weight: float = option(
        0.0,
        "weight in the loss of the squared error of the mean image, in nats; the likelihood has "
        "weight 1. A larger weight makes reconstructions more accurate (PSNR) at a higher cost in "
        "bits; scale beta with it",
        minimum=0,
    )
    prior_layers: int = option(4, "layers of the prior", minimum=1)
    prior_size: int = option(256, "width of the prior; a multiple of prior_heads", minimum=2)
    prior_filter_size: int = option(
        1024, "width inside the feed-forward layers of the prior", minimum=1
    )
    prior_heads: int = option(4, "attention heads per layer of the prior", minimum=1)
    prior_dropout: float = option(
        0.1, "dropout probability in the layers of the prior", minimum=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior_size % self.prior_heads:
            raise UsageError(
                f"prior_size={self.prior_size} with prior_heads={self.prior_heads}: expected "
                f"prior_size to be a multiple of prior_heads"
            )


@hparams_sets.register()
def vqvae_cifar10() -> VQVAEHParams:
    """VQ-VAE for CIFAR-10: a grid of 8x8 latents, 512 codes, learned by soft EM.

    The latent grid and the codebook are those of the literature (8x8, K=512), the residual blocks
    those of van den Oord et al. (2017, section 4.1), all of them at the size of the latent grid.
    Half of the codes are chosen given the other half, the squared error has the largest weight in
    the loss, and the use of codes is equalised, because the literature compares models of this rate
    by PSNR and perplexity.

        t2t-trainer --problem=image_cifar10 --model=vqvae --hparams_set=vqvae_cifar10 \\
          --data_dir=data --output_dir=runs/vqvae --train_steps=100000

    Cost and result: not measured yet. At this rate, the literature reports a perplexity of up to
    505 and, for another model, 26.1 dB PSNR on the test set.
    """
    return VQVAEHParams(
        hidden_size=256,
        residual_size=128,
        encoding_turns=2,
        squared_error_weight=8.0,
        beta=32.0,
        codebook_decay=0.9,
        balance=2.0,
        batch_size=128,
        warmup_steps=500,
        schedule="cosine",
        adam_beta2=0.99,
        adam_epsilon=1e-8,
    )


@hparams_sets.register()
def vqvae_cifar10_vq() -> VQVAEHParams:
    """As vqvae_cifar10, with codes learned by gradient as in van den Oord et al. (2017).

    The command is that of `vqvae_cifar10`. Cost and result: not measured yet.
    """
    return dataclasses.replace(vqvae_cifar10(), bottleneck_kind="vq")


@hparams_sets.register()
def vqvae_cifar10_hard_em() -> VQVAEHParams:
    """As vqvae_cifar10, with codes learned by hard EM: moving means of their vectors.

    The command is that of `vqvae_cifar10`. Cost and result: not measured yet.
    """
    return dataclasses.replace(vqvae_cifar10(), bottleneck_kind="hard_em")


@hparams_sets.register()
def vqvae_cifar10_soft_em() -> VQVAEHParams:
    """The same as vqvae_cifar10: codes learned by soft EM with ten samples.

    Registered so that each of the three kinds has a set with its name. The command is that of
    `vqvae_cifar10`. Cost and result: not measured yet.
    """
    return dataclasses.replace(vqvae_cifar10(), bottleneck_kind="soft_em", num_samples=10)


@hparams_sets.register()
def vqvae_cifar10_small() -> VQVAEHParams:
    """VQ-VAE for CIFAR-10 on two CPU cores: the same codes, fewer channels and a small prior.

        t2t-trainer --problem=image_cifar10 --model=vqvae --hparams_set=vqvae_cifar10_small \\
          --data_dir=data --output_dir=runs/vqvae_small --train_steps=10000

    Expected on the test set: 25.8 dB PSNR, perplexity 509, 5.05 bits/dim, after 83 minutes on two
    CPU cores without AVX-512, beside other work; with `t2t-decoder --search_passes=1` 26.2 dB, 510
    and 5.04 (see benchmarks/results/image_quality.md). For short runs a higher learning rate is
    better, such as learning_rate=4e-3,warmup_steps=100 for 600 steps.
    """
    return dataclasses.replace(
        vqvae_cifar10(),
        hidden_size=192,
        residual_size=96,
        num_mixtures=3,
        code_size=32,
        codebook_decay=0.95,
        temperature_steps=6000,
        prior_layers=2,
        prior_size=64,
        prior_filter_size=256,
        batch_size=64,
        learning_rate=3e-3,
    )


@hparams_sets.register()
def vqvae_cifar10_large() -> VQVAEHParams:
    """VQ-VAE for CIFAR-10 on GPUs: ten codes of 512 at each of 8x8 positions.

    The latents are those with which van den Oord et al. (2017, section 4.1) report 4.67 bits per
    dimension: 8x8x10, 512 codes. The set has twice the channels and the residual blocks of
    `vqvae_cifar10`, ten logistic distributions per pixel as in PixelCNN++, and a prior over 640
    codes. Unlike the other sets it optimises only the likelihood, because bits per dimension
    measure the likelihood.

        t2t-trainer --problem=image_cifar10 --model=vqvae --hparams_set=vqvae_cifar10_large \\
          --data_dir=data --output_dir=runs/vqvae_large --train_steps=250000

    Cost and result: not measured yet.
    """
    return dataclasses.replace(
        vqvae_cifar10(),
        hidden_size=512,
        num_residual_blocks=4,
        residual_size=256,
        num_mixtures=10,
        squared_error_weight=0.0,
        num_codebooks=10,
        code_size=320,
        beta=0.25,
        balance=0.0,
        prior_layers=8,
        prior_size=512,
        prior_filter_size=2048,
        prior_heads=8,
        batch_size=256,
        learning_rate=3e-4,
        warmup_steps=2000,
        dtype="bfloat16",
    )


@hparams_sets.register()
def vqvae_digits() -> VQVAEHParams:
    """VQ-VAE for the built-in digits: 8x8 pixels as a grid of 4x4 latents, 64 codes.

        t2t-trainer --problem=image_digits --model=vqvae --hparams_set=vqvae_digits \\
          --data_dir=data --output_dir=runs/digits --train_steps=2000

    Expected on the dev split: 3.8 bits per dimension (2.9 of them reconstruction), 24.7 dB PSNR,
    perplexity 60 of 64; samples that mostly look like digits, after minutes on two CPU cores. After
    step 1000 the prior overfits the 1,500 training images, while reconstruction still improves.
    """
    return VQVAEHParams(
        hidden_size=48,
        num_downsamplings=1,
        num_residual_blocks=1,
        residual_size=32,
        num_mixtures=3,
        num_codes=64,
        code_size=16,
        temperature_steps=1000,
        codebook_decay=0.9,
        prior_layers=2,
        prior_size=64,
        prior_filter_size=256,
        batch_size=64,
        learning_rate=4e-3,
        warmup_steps=100,
        schedule="cosine",
        adam_beta2=0.99,
        adam_epsilon=1e-8,
    )
