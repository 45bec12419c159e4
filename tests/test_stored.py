"""Files of earlier code still load: data sets open, runs continue and decode.

`tests/stored/make.py` says how the archives were made.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest

STORED = pathlib.Path(__file__).with_name("stored")
_SPEC = importlib.util.spec_from_file_location("stored_make", STORED / "make.py")
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

# Rounding differences of another processor, grown over two updates.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(STORED / "format_2.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("model", make.RUNS)
def test_a_stored_run_decodes_and_continues(model, stored, tmp_path):
    expected = json.loads((stored / "expected.json").read_text())[model]
    run = tmp_path / "run"
    shutil.copytree(stored / "runs" / model, run)

    decoded = make.decode(model, run, stored / "data")
    if model == "vqvae":
        wanted = np.array(expected["decoded"])
        # Rounding decides a few of the 8-bit levels, and one code in a thousand.
        differ = np.abs(decoded[: len(wanted)].astype(int) - wanted) > 1
        assert differ.mean() < 0.01
    else:
        assert decoded == expected["decoded"]

    figures = make.train(run, stored / "data", make.MORE_STEPS)
    compared = {"loss", "nll", "latent_nll", "bits_per_dim", "psnr", "commitment"}
    wanted = {k: v for k, v in expected["figures"].items() if k in compared}
    assert wanted
    assert {k: figures[k] for k in wanted} == pytest.approx(wanted, rel=TOLERANCE)
    assert figures["step"] == make.MORE_STEPS
