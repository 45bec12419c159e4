"""Counters and histograms in the text format of Prometheus."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metric:
    """A metric with one series for each combination of labels.

    Only the thread of the event loop uses it.
    """

    def __init__(self, name: str, help_text: str, kind: str, labels: Sequence[str]):
        self.name, self.help_text, self.kind = name, help_text, kind
        self._label_names = labels
        self.series: dict[tuple[str, ...], object] = {}

    def lines(self) -> list[str]:
        """Returns the metric in Prometheus's text format."""
        head = [f"# HELP {self.name} {self.help_text}", f"# TYPE {self.name} {self.kind}"]
        return head + [line for key in sorted(self.series) for line in self._series_lines(key)]

    def _series_lines(self, key: tuple[str, ...]) -> list[str]:
        raise NotImplementedError

    def _labels(self, key: tuple[str, ...], **more: str) -> str:
        pairs = [*zip(self._label_names, key, strict=True), *more.items()]
        listed = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
        return f"{{{listed}}}" if pairs else ""


class Counter(Metric):
    """A count that only increases."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()):
        super().__init__(name, help_text, "counter", labels)

    def add(self, *labels: str) -> None:
        """Adds one."""
        self.series[labels] = self.series.get(labels, 0) + 1

    def _series_lines(self, key: tuple[str, ...]) -> list[str]:
        return [f"{self.name}{self._labels(key)} {self.series[key]}"]


class Gauge(Metric):
    """A number that is read at each request for the metrics."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()):
        super().__init__(name, help_text, "gauge", labels)

    def watch(self, read: Callable[[], float], *labels: str) -> None:
        """Sets the function that reads the number."""
        self.series[labels] = read

    def _series_lines(self, key: tuple[str, ...]) -> list[str]:
        return [f"{self.name}{self._labels(key)} {self.series[key]()}"]


class Histogram(Metric):
    """The number of observed values up to each of several bounds, and the sum of all values."""

    def __init__(
        self, name: str, help_text: str, bounds: Sequence[float], labels: Sequence[str] = ()
    ):
        super().__init__(name, help_text, "histogram", labels)
        self._bounds = (*bounds, math.inf)

    def observe(self, value: float, *labels: str) -> None:
        """Counts a value."""
        counts, total = self.series.get(labels, ([0] * len(self._bounds), 0.0))
        counts[bisect.bisect_left(self._bounds, value)] += 1
        self.series[labels] = counts, total + value

    def _series_lines(self, key: tuple[str, ...]) -> list[str]:
        counts, total = self.series[key]
        lines, below = [], 0
        for bound, count in zip(self._bounds, counts, strict=True):
            below += count
            edge = "+Inf" if bound == math.inf else f"{bound:g}"
            lines.append(f"{self.name}_bucket{self._labels(key, le=edge)} {below}")
        lines.append(f"{self.name}_sum{self._labels(key)} {total:.9g}")
        lines.append(f"{self.name}_count{self._labels(key)} {below}")
        return lines


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Metrics:
    """All metrics of the server."""

    def __init__(self):
        self.requests = Counter("t2t_requests_total", "Answered requests.", ("endpoint", "status"))
        self.seconds = Histogram(
            "t2t_request_seconds",
            "Time from a request's headers to its answer.",
            SECONDS,
            ("endpoint",),
        )
        self.batch_rows = Histogram(
            "t2t_batch_rows", "Texts or images in a batch.", ROWS, ("model",)
        )
        self.wait_seconds = Histogram(
            "t2t_queue_seconds", "Waiting time of the first row of a batch.", SECONDS, ("model",)
        )
        self.queue_rows = Gauge("t2t_queue_rows", "Waiting texts or images.", ("model",))

    def text(self) -> str:
        """Returns all metrics in Prometheus's text format."""
        metrics = (self.requests, self.seconds, self.batch_rows, self.wait_seconds, self.queue_rows)
        return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"
