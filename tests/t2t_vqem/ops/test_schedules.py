import math

import pytest

from t2t_vqem.registry import schedules


def rates(name, **kwargs):
    schedule = schedules.get(name)
    arguments = {"learning_rate": 0.5, "warmup_steps": 4, "train_steps": 12, **kwargs}
    return [float(schedule(step, **arguments)) for step in range(14)]


def expected(name, step, warmup=4, train_steps=12):
    """The definition, update by update."""
    update = step + 1
    if update <= warmup:
        return 0.5 * update / warmup
    rest = min(1.0, (update - warmup) / (train_steps - warmup))
    return {
        "constant": 0.5,
        "rsqrt": 0.5 * math.sqrt(max(warmup, 1) / update),
        "cosine": 0.5 * (1 + math.cos(math.pi * rest)) / 2,
        "linear": 0.5 * (1 - rest),
    }[name]


@pytest.mark.parametrize("name", ["constant", "rsqrt", "cosine", "linear"])
def test_rate_of_each_step(name):
    assert rates(name) == pytest.approx([expected(name, step) for step in range(14)], abs=1e-7)


def test_every_schedule_is_tested():
    assert schedules.names() == ["constant", "cosine", "linear", "rsqrt"]


@pytest.mark.parametrize("name", schedules.names())
def test_without_warmup_it_starts_with_the_first_rate_of_its_decay(name):
    found = rates(name, warmup_steps=0)
    assert found == pytest.approx([expected(name, step, warmup=0) for step in range(14)], abs=1e-7)


@pytest.mark.parametrize("name", schedules.names())
def test_in_a_run_shorter_than_the_warmup_the_rate_only_rises(name):
    assert rates(name, train_steps=2)[:2] == pytest.approx([0.125, 0.25])
