"""Ends a run whose evaluations no longer improve."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from t2t_vqem.constants import UsageError

METRICS = ("bleu", "chrf", "loss")


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """When to end a run: a function of its evaluations alone, so restarts do not change it."""

    metric: str  # one of `METRICS`
    patience: int  # evaluations without improvement after which the run ends

    def is_due(self, evaluations: Sequence[Mapping[str, Any]]) -> bool:
        """Returns whether none of the last evaluations improved on the best one before them.

        Of evaluations with an equal score the one with the lower loss is better: BLEU, for example,
        stays 0 until four consecutive words are correct.

        Args:
            evaluations: the figures of all evaluations of the run, in the order of their steps.
                Those without the metric (of an older version, which did not compute it) are left
                out.
        """
        measured = [figures for figures in evaluations if self.metric in figures]
        sign = -1.0 if self.metric == "loss" else 1.0
        ranks = [(sign * figures[self.metric], -figures["loss"]) for figures in measured]
        return bool(ranks) and len(ranks) - 1 - ranks.index(max(ranks)) >= self.patience


def early_stopping(
    metric: str | None, patience: int, *, decodes_text: bool
) -> EarlyStopping | None:
    """Returns the rule of a run; None if it has none.

    Args:
        metric: one of `METRICS`; None: BLEU, or the loss of a model that does not translate.
        patience: number of evaluations; 0 for no rule.
        decodes_text: whether the run's evaluations have scores of translations.

    Raises:
        UsageError: the evaluations do not have the metric.
    """
    if not patience:
        return None
    if metric not in (None, "loss") and not decodes_text:
        raise UsageError(
            f"--eval_early_stopping_metric={metric}: this problem has no translations to score, "
            "expected loss"
        )
    return EarlyStopping(metric or ("bleu" if decodes_text else "loss"), patience)
