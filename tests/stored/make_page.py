"""Makes the archive of exports for the tests of the page, of the runs in the archive of `make.py`.

Those for the web hold the models alone: the tests put the page of today beside them.

    python tests/stored/make_page.py tests/stored/format_2.tar.xz tests/stored/page_1.tar.xz
"""

from __future__ import annotations

import os
import pathlib
import sys
import tarfile
import tempfile
from collections.abc import Sequence

from t2t_vqem.constants import LITERT, WEB
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export.exporter import export_run
from t2t_vqem.output_dir import OutputDir

# Folder -> run, options of decoding. In float32, so that all processors give the same.
_CANDIDATES = ("transformer_nat", "beam_size=9,num_candidates=9,num_best=9")
EXPORTS = {
    "web/latent": ("transformer_nat", ""),
    "web/beam": ("transformer", "beam_size=3,num_best=3"),
    "web/candidates": _CANDIDATES,
    "web/images": ("vqvae", ""),
    "litert/candidates": _CANDIDATES,
}
# Of the exports for the web.
_PARTS = ("manifest.json", "models.json", "models")


def main(arguments: Sequence[str]) -> None:
    """Makes the exports and packs them."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with tarfile.open(arguments[0]) as archive:
            archive.extractall(folder, filter="data")
        for export, (run, options) in EXPORTS.items():
            export_run(
                OutputDir(str(folder / "runs" / run)),
                str(folder / export),
                engine=WEB if export.startswith("web/") else LITERT,
                options=parse_options(options),
                data_dir=str(folder / "data"),
            )
        with tarfile.open(arguments[1], "w:xz") as archive:
            for export in EXPORTS:
                parts = _PARTS if export.startswith("web/") else os.listdir(folder / export)
                for part in sorted(parts):
                    archive.add(folder / export / part, arcname=f"{export}/{part}")


if __name__ == "__main__":
    main(sys.argv[1:])
