"""Makes exports_1.tar.xz beside this file: an export of each stored run, in export format 1.

It was run once. Later code must load and serve them.

    python tests/stored/make_exports.py tests/stored/exports_1.tar.xz
"""

from __future__ import annotations

import pathlib
import sys
import tarfile
import tempfile
from collections.abc import Sequence

from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export.exporter import export_run
from t2t_vqem.output_dir import OutputDir

RUNS = pathlib.Path(__file__).with_name("format_2.tar.xz")
EXPORTS = {
    "beam": ("transformer", {"options": DecodeOptions(beam_size=3, num_best=3)}),
    "latent": ("transformer_nat", {"quantize": "int8"}),
    "images": ("vqvae", {}),
}


def main(arguments: Sequence[str]) -> None:
    """Exports the runs and packs the folders."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with tarfile.open(RUNS) as archive:
            archive.extractall(folder, filter="data")
        with tarfile.open(arguments[0], "w:xz") as archive:
            for export, (run, settings) in EXPORTS.items():
                output_dir = OutputDir(str(folder / "runs" / run))
                export_run(
                    output_dir,
                    str(folder / export),
                    data_dir=str(folder / "data"),
                    verify=False,
                    **settings,
                )
                archive.add(folder / export, arcname=export)


if __name__ == "__main__":
    main(sys.argv[1:])
