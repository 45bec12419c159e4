"""The descriptions of models for the page: the server gives them, and a folder without a server."""

from __future__ import annotations

from typing import Any

from t2t_vqem.runtime.manifest import Manifest


def text_card(name: str, manifest: Manifest, *, can_sample: bool, phrases: bool) -> dict[str, Any]:
    """Describes a model that translates, as JSON.

    Args:
        name: name of the model.
        manifest: the manifest of the export.
        can_sample: see `TextRuntime.can_sample`.
        phrases: whether the export has the phrases of each code.
    """
    languages = " to ".join(manifest.languages)
    weights = "int8" if manifest.quantize == "int8" else "float32"
    latents = {
        "num_codes": manifest.num_codes,
        "tokens_per_code": manifest.tokens_per_latent,
        "phrases": phrases,
    }
    return {
        **_card(name, manifest, f"{manifest.model}, {languages}, {weights}"),
        "languages": list(manifest.languages),
        "latents": latents if manifest.num_codes else None,
        "can_sample": can_sample,
        "max_tokens": manifest.max_length,
    }


def image_card(name: str, manifest: Manifest, *, most_images: int) -> dict[str, Any]:
    """Describes a model of images, as JSON.

    Args:
        name: name of the model.
        manifest: the manifest of the export.
        most_images: the largest number of images in a request.
    """
    height, width, channels = manifest.image_shape
    latents, codebooks = manifest.code_shape
    # Height and width are downsampled by the same factor.
    block = round((height * width / latents) ** 0.5)
    image = {
        "height": height,
        "width": width,
        "channels": channels,
        "rows": height // block,
        "columns": width // block,
        "num_codes": manifest.num_codes,
        "num_codebooks": codebooks,
    }
    size = "x".join(map(str, manifest.image_shape))
    return {
        **_card(name, manifest, f"{manifest.model}, images of {size}"),
        "image": image,
        "max_images": most_images,
    }


def _card(name: str, manifest: Manifest, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": manifest.kind,
        "description": description,
        "export": {
            "model": manifest.model,
            "quantize": manifest.quantize,
            "decoding": dict(manifest.decoding),
            "about": dict(manifest.about),
        },
    }
