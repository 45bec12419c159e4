"""t2t-decoder for a model of images: sampling, reconstruction, encoding and decoding."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from t2t_vqem.constants import UsageError
from t2t_vqem.data.progress import Progress
from t2t_vqem.image_problem import ImageProblem
from t2t_vqem.inference import image_files
from t2t_vqem.inference.image_files import ARRAY, ARRAYS, PICTURE, CodeSet, ImageSet

_logger = logging.getLogger(__name__)
_SAMPLING = ("sampling_temp", "sampling_keep_top_k", "seed")


class _Loaded(NamedTuple):
    """The loaded model of a run."""

    decoder: Any  # inference.images.ImageDecoder
    weights: str  # digest
    checkpoint: str  # path


def run(values: flags.FlagValues) -> None:
    """Carries out what the flags of t2t-decoder ask for."""
    from_codes = _check(values)
    # Imports TensorFlow, which takes seconds, only after the flags are checked.
    from t2t_vqem.output_dir import OutputDir

    output_dir = OutputDir(values.output_dir)
    problem = output_dir.problem()
    if from_codes:
        _decode_codes(values, image_files.read_codes(values.decode_from_file), output_dir, problem)
    elif values.decode_split or values.decode_from_file:
        images = _read_images(values, output_dir, problem)
        _reconstruct(values, images, _load(values, output_dir, problem, len(images.images)))
    else:
        _sample(values, _load(values, output_dir, problem, values.num_samples).decoder)


def _check(values: flags.FlagValues) -> bool:
    """Checks the combination of flags; returns whether the input is a file of codes."""
    sources = [name for name in ("decode_from_file", "decode_split") if values[name].value]
    if len(sources) > 1:
        raise UsageError(
            "--decode_from_file and --decode_split are both given, expected only one of them, or "
            "neither to sample new images"
        )
    if values.decode_from_file and not os.path.exists(values.decode_from_file):
        raise UsageError(
            f"--decode_from_file={values.decode_from_file}: there is no such file. Expected an "
            "image, a folder of images, or a .npy or .npz file"
        )
    from_codes = bool(values.decode_from_file) and image_files.holds_codes(values.decode_from_file)
    if values.data_dir and not values.decode_split:
        raise UsageError("--data_dir is only for --decode_split: omit it, or add --decode_split")
    _check_input_of(values, sources, from_codes)
    _check_output(values, sources, from_codes)
    return from_codes


def _check_input_of(values: flags.FlagValues, sources: list[str], from_codes: bool) -> None:
    """Checks the flags that determine how the input is processed."""
    sampling = [name for name in _SAMPLING if values[name].present]
    if sources and sampling:
        raise UsageError(
            f"--{sampling[0]} is only for sampling new images, not for images or codes from "
            f"--{sources[0]}. Omit one of them"
        )
    if values.sampling_temp is not None and values.sampling_temp <= 0:
        raise UsageError(
            f"--sampling_temp={values.sampling_temp}: expected a temperature above 0. With 0 all "
            "samples would be the same image"
        )
    given = f"{values.decode_from_file} holds codes already" if from_codes else "none are given"
    for name in ("encode_to_file", "search_passes"):
        if values[name].value and (from_codes or not sources):
            raise UsageError(
                f"--{name} is only for images from --decode_split or --decode_from_file, and "
                f"{given}. Omit it"
            )


def _check_output(values: flags.FlagValues, sources: list[str], from_codes: bool) -> None:
    """Checks the flags that name the output."""
    path = values.decode_to_file
    if path == "-" and (values["decode_to_file"].present or from_codes or not sources):
        raise UsageError(
            "--decode_to_file is missing: images cannot be written to standard output. Expected a "
            "picture (.png) or arrays (.npy, .npz)"
        )
    if path != "-":
        image_files.check_output(path, (PICTURE, ARRAY, ARRAYS), "decode_to_file")
    if values.encode_to_file:
        image_files.check_output(values.encode_to_file, (ARRAYS,), "encode_to_file")
    if sources and values["num_samples"].present and not path.endswith(PICTURE):
        raise UsageError(
            f"--num_samples with --{sources[0]} limits only the images in a .png; metrics, arrays "
            "and codes always cover all images. Omit it, or name a .png with --decode_to_file"
        )


def _load(
    values: flags.FlagValues, output_dir: Any, problem: ImageProblem, num_images: int
) -> _Loaded:
    """Loads the model, with batches no larger than needed for the number of images."""
    from t2t_vqem.inference.images import DEFAULT_BATCH_SIZE, ImageDecoder, weights_digest

    model = output_dir.build_model()
    checkpoint = output_dir.restore_for_inference(model, values.checkpoint)
    _logger.info("weights of %s", checkpoint)
    batch_size = values.batch_size or DEFAULT_BATCH_SIZE
    decoder = ImageDecoder(
        model,
        image_shape=problem.image_shape,
        batch_size=min(batch_size, max(num_images, DEFAULT_BATCH_SIZE)),
        search_passes=values.search_passes,
        xla=values.xla,
    )
    return _Loaded(decoder, weights_digest(model), checkpoint)


def _read_images(values: flags.FlagValues, output_dir: Any, problem: ImageProblem) -> ImageSet:
    """Reads the images to reconstruct or encode."""
    if values.decode_from_file:
        return image_files.read_images(
            values.decode_from_file, problem.image_shape, problem.read_image
        )
    dataset = problem.open(values.data_dir or output_dir.settings().data_dir)
    return ImageSet(dataset.images(values.decode_split), [])


def _sample(values: flags.FlagValues, decoder: Any) -> None:
    """Samples new images and writes them."""
    num = values.num_samples
    with Progress("sampling", num, "images") as progress:
        codes = decoder.sample(
            num,
            temperature=1.0 if values.sampling_temp is None else values.sampling_temp,
            top_k=values.sampling_keep_top_k,
            seed=values.seed,
            progress=progress.advance,
        )
    image_files.write_images(values.decode_to_file, decoder.decode(codes))


def _reconstruct(values: flags.FlagValues, originals: ImageSet, loaded: _Loaded) -> None:
    """Writes codes and reconstructions if requested, and prints the metrics."""
    decoder, images, names = loaded.decoder, originals.images, originals.names
    with Progress("encoding", len(images), "images") as progress:
        codes = decoder.encode(images, progress=progress.advance)
    if values.encode_to_file:
        code_set = CodeSet(codes, loaded.weights, loaded.checkpoint)
        image_files.write_codes(values.encode_to_file, code_set, names)
    if values.decode_to_file != "-":
        num_decoded = _num_decoded(values, len(images))
        _decode(values, decoder, codes[:num_decoded], images[:num_decoded], names)
    with Progress("measuring", len(images), "images") as progress:
        figures = decoder.measure(images, codes, progress=progress.advance)
    what = values.decode_split or values.decode_from_file
    text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    print(f"{what}, {len(images):,} images: {text}")


def _decode_codes(
    values: flags.FlagValues, codes: CodeSet, output_dir: Any, problem: ImageProblem
) -> None:
    """Writes the images of codes, if they were encoded by this model."""
    loaded = _load(values, output_dir, problem, len(codes.codes))
    if codes.weights != loaded.weights:
        raise UsageError(
            f"{values.decode_from_file} was encoded with the weights in {codes.checkpoint}, but "
            f"{loaded.checkpoint} has other weights. Name the run with --output_dir and its "
            "weights with --checkpoint, or encode the images again"
        )
    num_decoded = _num_decoded(values, len(codes.codes))
    _decode(values, loaded.decoder, codes.codes[:num_decoded])


def _num_decoded(values: flags.FlagValues, total: int) -> int:
    """Returns the number of images to write: all of them, or as many as a picture shows."""
    path = values.decode_to_file
    if not path.endswith(PICTURE) or total <= values.num_samples:
        return total
    _logger.info("%s shows the first %d of %d images", path, values.num_samples, total)
    return values.num_samples


def _decode(
    values: flags.FlagValues,
    decoder: Any,
    codes: np.ndarray,
    originals: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> None:
    """Writes the images of codes to --decode_to_file."""
    with Progress("decoding", len(codes), "images") as progress:
        images = decoder.decode(codes, progress=progress.advance)
    image_files.write_images(values.decode_to_file, images, originals=originals, names=names)
