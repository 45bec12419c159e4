"""Seeds have a range, checked by each command and each problem."""

import dataclasses
import importlib
import pkgutil

import pytest
from absl import flags

import t2t_vqem.bin
from t2t_vqem.constants import MAX_SAMPLING_SEED, MAX_SEED, UsageError
from t2t_vqem.registry import problems

COMMANDS = [m.name for m in pkgutil.iter_modules(t2t_vqem.bin.__path__) if m.name[0] != "_"]
LARGEST = {
    "t2t_decoder": MAX_SAMPLING_SEED,
    "t2t_demo": MAX_SAMPLING_SEED,  # it is the decoder's, too
    "t2t_trainer": MAX_SEED,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_checks_its_seed(name):
    values = importlib.import_module(f"t2t_vqem.bin.{name}").FLAGS
    assert [flag for flag in values if "seed" in flag] == (["seed"] if name in LARGEST else [])
    if name not in LARGEST:
        return
    largest = LARGEST[name]
    try:
        for seed in (0, largest):
            values([name, f"--seed={seed}"])
        for seed in (-1, largest + 1, 2**80):
            with pytest.raises(
                flags.IllegalFlagValueError, match=rf"in the range \[0, {largest}\]"
            ):
                values([name, f"--seed={seed}"])
    finally:
        values["seed"].unparse()


@pytest.mark.parametrize("name", problems.names())
def test_each_problem_checks_its_seed(name):
    config = problems.get(name).Config
    for field in [field.name for field in dataclasses.fields(config) if "seed" in field.name]:
        assert getattr(config(**{field: MAX_SEED}), field) == MAX_SEED
        for seed in (-1, MAX_SEED + 1):
            with pytest.raises(
                UsageError, match=f"{field}={seed} is out of range, expected 0 to {MAX_SEED}"
            ):
                config(**{field: seed})
