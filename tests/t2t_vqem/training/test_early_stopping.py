import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.training.early_stopping import EarlyStopping, early_stopping


@pytest.mark.parametrize(
    ("metric", "values", "due"),
    [
        ("bleu", [], False),
        ("bleu", [1.0], False),
        ("bleu", [1.0, 0.5], False),
        ("bleu", [1.0, 0.5, 0.9], True),
        ("bleu", [1.0, 0.5, 1.1], False),
        ("bleu", [1.0, 0.5, 1.1, 1.0], False),
        ("bleu", [1.0, 0.5, 1.1, 1.0, 1.05], True),
        ("bleu", [1.0, 1.0, 1.0], True),
        ("chrf", [3.0, 2.0, 1.0], True),
        ("loss", [3.0, 2.0, 1.0], False),
        ("loss", [1.0, 2.0, 1.5], True),
    ],
)
def test_two_evaluations_without_improvement(metric, values, due):
    figures = [{"loss": 2.0, metric: value} for value in values]
    assert EarlyStopping(metric, 2).is_due(figures) == due


def test_the_loss_decides_between_equal_scores():
    losses = [3.0, 2.0, 1.0, 1.5, 1.2]
    figures = [{"loss": loss, "bleu": 0.0} for loss in losses]
    found = [EarlyStopping("bleu", 2).is_due(figures[:n]) for n in range(1, 6)]
    assert found == [False] * 4 + [True]


def test_evaluations_without_the_metric_do_not_count():
    old = [{"loss": 1.0, "bleu": 9.0}] * 5
    assert not EarlyStopping("chrf", 1).is_due(old)
    assert not EarlyStopping("chrf", 1).is_due([*old, {"loss": 1.0, "chrf": 5.0}])
    assert EarlyStopping("chrf", 1).is_due([*old, *[{"loss": 1.0, "chrf": 5.0}] * 2])


def test_the_metric_is_that_of_the_task():
    assert early_stopping(None, 0, decodes_text=True) is None
    assert early_stopping(None, 3, decodes_text=True) == EarlyStopping("bleu", 3)
    assert early_stopping(None, 3, decodes_text=False) == EarlyStopping("loss", 3)
    with pytest.raises(UsageError, match="metric=chrf: .* no translations to score, expected loss"):
        early_stopping("chrf", 3, decodes_text=False)
