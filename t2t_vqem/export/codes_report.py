"""What each code of a model stands for: its count, phrases or image patches, and nearest codes."""

from __future__ import annotations

import base64
import html
import json
import math
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from t2t_vqem.constants import UsageError
from t2t_vqem.export.phrases import count_phrases, most_frequent
from t2t_vqem.files import write_file
from t2t_vqem.inference.image_files import encode_png, image_grid
from t2t_vqem.runtime import TextRuntime

JSON_LINES, PAGE = "codes.jsonl", "codes.html"
PROJECTOR = "projector_config.pbtxt"  # the name that TensorBoard looks for
_LABEL_PHRASES = 3
_MOST_NEAREST = 5
_MOST_PATCHES = 12

_HEAD = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 70em; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #ccc; padding: .3em .8em; text-align: left; }}
th, td {{ vertical-align: top; }}
tr:target {{ background: #ffc; }}
i {{ color: #666; font-style: normal; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
<table>
<tr><th>Code<th>Count<th>Share<th>Stands for<th>Nearest codes
"""


class Code(NamedTuple):
    """A code of a codebook, as a line of the report."""

    codebook: int
    code: int
    count: int  # latents of the data that it replaces
    share: float  # count / latents
    nearest: list[tuple[int, float]]  # the nearest codes and their distances, nearest first
    phrases: list[tuple[str, int]] | None = None  # of text, with counts, most frequent first
    patches: list[tuple[int, int, int]] | None = (
        None  # of images: image, row and column of the grid
    )


class Report(NamedTuple):
    """All codes of a model, in order, and for images the patches of each as a PNG file."""

    codes: list[Code]
    codebooks: np.ndarray  # float [C, K, D/C]
    pictures: list[bytes | None] | None = None


def nearest_codes(codebook: np.ndarray) -> list[list[tuple[int, float]]]:
    """Returns the nearest other codes of each code.

    Args:
        codebook: float [K, D].

    Returns:
        For each code at most five (code, Euclidean distance), nearest first.
    """
    found = []
    for number, code in enumerate(codebook.astype(np.float64)):
        distances = np.sqrt(np.sum((codebook - code) ** 2, 1))
        distances[number] = np.inf
        order = np.argsort(distances, kind="stable")[: min(_MOST_NEAREST, len(codebook) - 1)]
        found.append([(int(other), float(distances[other])) for other in order])
    return found


def text_report(
    model: TextRuntime, codebook: np.ndarray, pairs: Iterable[tuple[str, str]]
) -> Report:
    """Reports the codes that a latent model gives to translations.

    Args:
        model: the model, able to score.
        codebook: float [K, D].
        pairs: sources and translations.
    """
    found = count_phrases(model, pairs)
    phrases, nearest = most_frequent(found.phrases), nearest_codes(codebook)
    return Report(
        [
            Code(0, code, count, count / max(1, found.codes.sum()), nearest[code], phrases[code])
            for code, count in enumerate(found.codes.tolist())
        ],
        codebook[None],
    )


def image_report(images: np.ndarray, codes: np.ndarray, codebooks: np.ndarray) -> Report:
    """Reports the codes of images, with patches of the images that they stand for.

    Args:
        images: uint8 [N, H, W, channels].
        codes: int [N, L, C], their codes; the L latents are a grid in row-major order.
        codebooks: float [C, K, D/C].

    Raises:
        UsageError: the latents are no grid of square patches.
    """
    grid = _grid(images.shape[1:3], codes.shape[1])
    codes = codes.reshape(len(codes), *grid, -1)
    height, width = (size // n for size, n in zip(images.shape[1:3], grid, strict=True))
    lines, pictures = [], []
    for number, codebook in enumerate(codebooks):
        nearest = nearest_codes(codebook)
        for code in range(len(codebook)):
            places = np.argwhere(codes[..., number] == code)
            count = len(places)
            most = min(count, _MOST_PATCHES)
            shown = places[np.arange(most) * count // max(1, most)]  # spread over the images
            patches = [
                images[image, row * height : (row + 1) * height, column * width :][:, :width]
                for image, row, column in shown
            ]
            where = [tuple(place) for place in shown.tolist()]
            share = count / max(1, codes[..., number].size)
            lines.append(Code(number, code, count, share, nearest[code], patches=where))
            pictures.append(encode_png(image_grid(np.stack(patches))) if patches else None)
    return Report(lines, codebooks, pictures)


def _grid(size: tuple[int, int], num_latents: int) -> tuple[int, int]:
    """Returns the rows and columns of the latent grid of images of a size."""
    side = math.isqrt(size[0] * size[1] // max(1, num_latents))
    if not side or (size[0] // side) * (size[1] // side) != num_latents:
        raise UsageError(
            f"{num_latents} latents of images of {size[0]}x{size[1]}: expected a grid of square "
            "patches, to show what the codes stand for"
        )
    return size[0] // side, size[1] // side


def write_report(folder: str, title: str, report: Report) -> None:
    """Writes `codes.jsonl`, in the order of the codes, and the page `codes.html`, by frequency.

    And the files that TensorBoard's projector shows, started with this folder as --logdir: the
    vectors of each codebook, with code, count and phrases as labels.
    """
    os.makedirs(folder, exist_ok=True)
    lines = [
        {name: value for name, value in code._asdict().items() if value is not None}
        for code in report.codes
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(os.path.join(folder, JSON_LINES), text.encode())
    write_file(os.path.join(folder, PAGE), _page(title, report).encode())
    files = _projector_files(report)
    for name, text in files.items():
        write_file(os.path.join(folder, name), text.encode())


def _projector_files(report: Report) -> dict[str, str]:
    """Returns the contents of the files for TensorBoard's projector, by name."""
    files, config = {}, ""
    for number, codebook in enumerate(report.codebooks):
        vectors, labels = f"vectors_{number}.tsv", f"labels_{number}.tsv"
        codes = [code for code in report.codes if code.codebook == number]
        rows = [(code.code, code.count, _label(code)) for code in codes]
        table = [("code", "count", "stands for"), *rows]
        files[labels] = "".join("\t".join(map(str, row)) + "\n" for row in table)
        files[vectors] = "".join("\t".join(map(repr, row)) + "\n" for row in codebook.tolist())
        config += (
            f'embeddings {{\n  tensor_name: "codebook {number}"\n  tensor_path: "{vectors}"\n'
            f'  metadata_path: "{labels}"\n}}\n'
        )
    return {**files, PROJECTOR: config}


def _label(code: Code) -> str:
    phrases = [phrase for phrase, _ in code.phrases or ()]
    return " | ".join(phrases[:_LABEL_PHRASES]).replace("\t", " ") or f"code {code.code}"


def _page(title: str, report: Report) -> str:
    used = sum(code.count > 0 for code in report.codes)
    summary = f"{used} of {len(report.codes)} codes are used."
    pictures = report.pictures or [None] * len(report.codes)
    rows = sorted(zip(report.codes, pictures, strict=True), key=lambda row: -row[0].count)
    several = report.codes[-1].codebook > 0
    return (
        _HEAD.format(title=html.escape(title), summary=summary)
        + "".join(_row(code, picture, several) for code, picture in rows)
        + "</table>\n</html>\n"
    )


def _row(code: Code, picture: bytes | None, several: bool) -> str:
    def name(number: int) -> str:
        return f"{code.codebook}.{number}" if several else str(number)

    stands_for = ", ".join(
        f"{html.escape(phrase)} <i>{count:,}</i>" for phrase, count in code.phrases or ()
    )
    if picture:
        stands_for = (
            f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        )
    nearest = ", ".join(
        f'<a href="#c{name(other)}">{name(other)}</a> <i>{distance:.3g}</i>'
        for other, distance in code.nearest
    )
    cells = (name(code.code), f"{code.count:,}", f"{code.share:.2%}", stands_for, nearest)
    return f'<tr id="c{name(code.code)}">' + "".join(f"<td>{cell}" for cell in cells) + "\n"
