"""The registered sets of the VQ-VAE fit their problems and match their names."""

import dataclasses

import pytest

from t2t_vqem import registry
from t2t_vqem.hparams.vqvae import VQVAEHParams

CIFAR10 = (32, 32, 3)
SETS = {
    "vqvae_cifar10": CIFAR10,
    "vqvae_cifar10_vq": CIFAR10,
    "vqvae_cifar10_hard_em": CIFAR10,
    "vqvae_cifar10_soft_em": CIFAR10,
    "vqvae_cifar10_small": CIFAR10,
    "vqvae_cifar10_large": CIFAR10,
    "vqvae_digits": (8, 8, 1),
}


def hparams_of(name: str) -> VQVAEHParams:
    return registry.hparams_sets.get(name)()


def test_every_set_of_the_model_is_named_here():
    names = {name for name in registry.hparams_sets.names() if name.startswith("vqvae")}
    assert names == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_set_fits_the_images_of_its_problem(name):
    model = registry.models.get("vqvae")(hparams_of(name), image_shape=SETS[name])
    assert model.num_latents == (16 if name == "vqvae_digits" else 64)


@pytest.mark.parametrize("kind", ["vq", "hard_em", "soft_em"])
def test_the_three_kinds_differ_only_in_the_kind(kind):
    hparams = hparams_of(f"vqvae_cifar10_{kind}")
    assert hparams.bottleneck_kind == kind
    assert dataclasses.replace(hparams, bottleneck_kind="soft_em") == hparams_of("vqvae_cifar10")


@pytest.mark.parametrize(
    ("name", "num_codebooks"),
    [("vqvae_cifar10", 1), ("vqvae_cifar10_small", 1), ("vqvae_cifar10_large", 10)],
)
def test_numbers_of_codes_are_those_of_the_papers(name, num_codebooks):
    hparams = hparams_of(name)
    assert hparams.num_codes == 512
    assert hparams.num_codebooks == num_codebooks
    assert hparams.num_downsamplings == 2
