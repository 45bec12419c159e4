"""Hostile requests to a real server: a minute of benchmarks/server_fuzz.py."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
_SPEC = importlib.util.spec_from_file_location(
    "server_fuzz", ROOT / "benchmarks" / "server_fuzz.py"
)
server_fuzz = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(server_fuzz)


@pytest.mark.slow
def test_hostile_requests_do_no_harm(stored_exports):
    models = ",".join(str(stored_exports / name) for name in ("latent", "beam", "images"))
    found = server_fuzz.fuzz(models, 5000, memory=400.0)
    answers = found["answers"]
    # What is sent reaches all kinds of refusals, and right requests get through.
    assert {"200", "400", "404", "405", "408", "413", "421", "422"} <= set(answers)
    assert answers["200"] >= 100
