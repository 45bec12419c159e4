import math

import pytest

from t2t_vqem.registry import schedules


def rates(name, **kwargs):
    schedule = schedules.get(name)
    arguments = {"learning_rate": 0.5, "warmup_steps": 4, "train_steps": 12, **kwargs}
    return [float(schedule(step, **arguments)) for step in range(14)]


def expected(name, step):
    """The definition, one update after the other."""
    update = step + 1
    if update <= 4:
        return 0.5 * update / 4
    rest = min(1.0, (update - 4) / 8)
    return {
        "constant": 0.5,
        "rsqrt": 0.5 * math.sqrt(4 / update),
        "cosine": 0.5 * (1 + math.cos(math.pi * rest)) / 2,
        "linear": 0.5 * (1 - rest),
    }[name]


@pytest.mark.parametrize("name", ["constant", "rsqrt", "cosine", "linear"])
def test_rate_of_each_step(name):
    assert rates(name) == pytest.approx([expected(name, step) for step in range(14)], abs=1e-7)


def test_every_schedule_is_tested():
    assert schedules.names() == ["constant", "cosine", "linear", "rsqrt"]


@pytest.mark.parametrize("name", schedules.names())
def test_without_warmup_starts_near_the_highest_rate(name):
    first, *later = rates(name, warmup_steps=0)
    assert first == pytest.approx(0.5, rel=0.1)
    assert max(later) <= first


@pytest.mark.parametrize("name", schedules.names())
def test_run_shorter_than_the_warmup(name):
    assert all(math.isfinite(rate) and 0 <= rate <= 0.5 for rate in rates(name, train_steps=2))
