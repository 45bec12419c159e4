"""Whether one system is better than another by more than chance: sacreBLEU's paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

TESTS = {"bs": "paired bootstrap", "ar": "approximate randomization"}  # sacreBLEU's names


class SystemResult(NamedTuple):
    """The score of a system, and how it compares with the first one."""

    name: str
    value: float
    mean: float  # of the bootstrap
    interval: float  # 95 % of the bootstrap's scores are within mean +- this
    p_values: dict[str, float]  # by test, a key of `TESTS`; empty for the first system


class Comparison(NamedTuple):
    """The results of one metric for several systems. Signatures have seed and sample number."""

    name: str
    signatures: dict[str, str]  # by test
    systems: list[SystemResult]

    def __str__(self) -> str:
        lines = [f"{self.name}, each system against {self.systems[0].name}:"]
        for system in self.systems:
            lines.append(
                f"  {system.value:6.2f}  ({system.mean:.2f} ± {system.interval:.2f})  {system.name}"
                + "".join(f"  p = {p:.4f} ({TESTS[test]})" for test, p in system.p_values.items())
            )
        return "\n".join(lines + [f"  {signature}" for signature in self.signatures.values()])


def compare_systems(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    metric: Metric,
    *,
    num_samples: int = 0,
) -> Comparison:
    """Compares systems with the first of them, the baseline, by both tests.

    Args:
      systems: by name, one detokenised sentence per segment.
      references: one or several for each segment, each as long as a system.
      metric: of sacreBLEU.
      num_samples: resamples of the bootstrap and trials of the randomization; 0 for sacreBLEU's
        1,000 and 10,000.
    """
    named = [(name, list(lines)) for name, lines in systems.items()]
    found, signatures = {}, {}
    for test in TESTS:
        paired = PairedTest(
            named,
            {"": metric},
            [list(r) for r in references],
            test_type=test,
            n_samples=num_samples,
        )
        signed, scores = paired()
        ((name, found[test]),) = [item for item in scores.items() if item[0] != "System"]
        signatures[test] = str(signed[name])
    return Comparison(
        name,
        signatures,
        [
            SystemResult(
                system,
                bootstrap.score,
                bootstrap.mean,
                bootstrap.ci,
                {
                    test: results[index].p_value
                    for test, results in found.items()
                    if results[index].p_value is not None
                },
            )
            for index, (system, bootstrap) in enumerate(zip(systems, found["bs"], strict=True))
        ],
    )
