"""Makes the archive of exports for the web beside this file, of the runs in the archive of `make.py`.

They hold the models alone: the tests of the page put the page of today beside them.

    python tests/stored/make_web.py tests/stored/format_2.tar.xz tests/stored/web_1.tar.xz
"""

from __future__ import annotations

import pathlib
import sys
import tarfile
import tempfile
from collections.abc import Sequence

from t2t_vqem.constants import WEB
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export.exporter import export_run
from t2t_vqem.output_dir import OutputDir

# Name -> run, options of decoding. In float32, so that all processors give the same.
EXPORTS = {
    "latent": ("transformer_nat", ""),
    "beam": ("transformer", "beam_size=3,num_best=3"),
    "images": ("vqvae", ""),
}


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
                engine=WEB,
                options=parse_options(options),
                data_dir=str(folder / "data"),
            )
        with tarfile.open(arguments[1], "w:xz") as archive:
            for export in EXPORTS:
                for part in ("manifest.json", "models.json", "models"):
                    archive.add(folder / export / part, arcname=f"{export}/{part}")


if __name__ == "__main__":
    main(sys.argv[1:])
