"""Sets for the VQ-VAE."""

import dataclasses

from t2t_vqem.config import VQVAEHParams
from t2t_vqem.registry import hparams_sets


@hparams_sets.register()
def vqvae_cifar10() -> VQVAEHParams:
    """VQ-VAE for CIFAR-10: a field of 8x8 codes of 512, learned by soft EM.

    The latent field and the codebook of the literature (8x8, K=512), residual blocks as those of
    van den Oord et al. (2017, section 4.1), all at the latents' size, and a Transformer as the
    prior. Half of the codes are chosen knowing the others, the squared error weighs most in the
    loss, and codes are kept equally used: what the literature compares at this rate are PSNR and
    perplexity.

        t2t-trainer --problem=image_cifar10 --model=vqvae --hparams_set=vqvae_cifar10 \\
          --data_dir=data --output_dir=runs/vqvae --train_steps=100000

    Cost and result: not measured yet. In the literature at this rate: perplexity up to 505 and, in
    another model, 26.1 dB PSNR on the test set.
    """
    return VQVAEHParams(
        hidden_size=256,
        num_downsamplings=2,
        num_residual_blocks=2,
        residual_size=128,
        num_mixtures=5,
        squared_error_weight=8.0,
        bottleneck_kind="soft_em",
        num_codes=512,
        num_codebooks=1,
        code_size=64,
        num_samples=10,
        beta=32.0,
        codebook_decay=0.9,
        balance=2.0,
        encoding_turns=2,
        prior_layers=4,
        prior_size=256,
        prior_filter_size=1024,
        prior_heads=4,
        prior_dropout=0.1,
        batch_size=128,
        learning_rate=1e-3,
        warmup_steps=500,
        schedule="cosine",
        adam_beta2=0.99,
        adam_epsilon=1e-8,
    )


@hparams_sets.register()
def vqvae_cifar10_vq() -> VQVAEHParams:
    """As vqvae_cifar10, the codes learned by gradient as in van den Oord et al. (2017).

    The command is that of `vqvae_cifar10`. Cost and result: not measured yet.
    """
    return dataclasses.replace(vqvae_cifar10(), bottleneck_kind="vq")


@hparams_sets.register()
def vqvae_cifar10_hard_em() -> VQVAEHParams:
    """As vqvae_cifar10, the codes learned by hard EM: moving means of what is nearest to them.

    The command is that of `vqvae_cifar10`. Cost and result: not measured yet.
    """
    return dataclasses.replace(vqvae_cifar10(), bottleneck_kind="hard_em")


@hparams_sets.register()
def vqvae_cifar10_soft_em() -> VQVAEHParams:
    """As vqvae_cifar10, the codes learned by soft EM with ten samples, which is the same.

    The command is that of `vqvae_cifar10`. Cost and result: not measured yet.
    """
    return dataclasses.replace(vqvae_cifar10(), bottleneck_kind="soft_em", num_samples=10)


@hparams_sets.register()
def vqvae_cifar10_small() -> VQVAEHParams:
    """VQ-VAE for CIFAR-10 on two CPU cores: fewer channels and a small prior, the same codes.

        t2t-trainer --problem=image_cifar10 --model=vqvae --hparams_set=vqvae_cifar10_small \\
          --data_dir=data --output_dir=runs/vqvae_small --train_steps=10000

    Expected on the test set: 25.8 dB PSNR, perplexity 509, 5.05 bits/dim, after 83 minutes on two
    CPU cores without AVX-512, beside other work; with `t2t-decoder --search_passes=1` 26.2 dB, 510
    and 5.04 (see benchmarks/results/image_quality.md). For a short run a higher rate is better,
    such as learning_rate=4e-3,warmup_steps=100 for 600 steps.
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
        warmup_steps=500,
    )


@hparams_sets.register()
def vqvae_cifar10_large() -> VQVAEHParams:
    """VQ-VAE for CIFAR-10 on GPUs: ten codes of 512 at each of 8x8 places.

    The latents of van den Oord et al. (2017, section 4.1), 8x8x10 of 512, with which they report
    4.67 bits per dimension; twice the channels and the residual blocks of `vqvae_cifar10`, ten
    logistic distributions a pixel as in PixelCNN++, and a prior over 640 codes. Unlike the others
    it learns by likelihood alone, which is what bits per dimension measure.

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
    """VQ-VAE for the built-in digits, 8x8 pixels as 4x4 codes of 64.

        t2t-trainer --problem=image_digits --model=vqvae --hparams_set=vqvae_digits \\
          --data_dir=data --output_dir=runs/digits --train_steps=2000

    Expected on the dev split: 3.8 bits per dimension (2.9 of them reconstruction), 24.7 dB PSNR,
    perplexity 60 of 64; samples that mostly look like digits, after minutes on two CPU cores. From
    step 1000 on the prior learns the 1,500 training images by heart, while reconstruction still
    improves.
    """
    return VQVAEHParams(
        hidden_size=48,
        num_downsamplings=1,
        num_residual_blocks=1,
        residual_size=32,
        num_mixtures=3,
        bottleneck_kind="soft_em",
        num_codes=64,
        num_codebooks=1,
        code_size=16,
        num_samples=10,
        temperature_steps=1000,
        codebook_decay=0.9,
        prior_layers=2,
        prior_size=64,
        prior_filter_size=256,
        prior_heads=4,
        prior_dropout=0.1,
        batch_size=64,
        learning_rate=4e-3,
        warmup_steps=100,
        schedule="cosine",
        adam_beta2=0.99,
        adam_epsilon=1e-8,
    )
