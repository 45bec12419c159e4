"""Latency is measured in the second run, when everything is compiled."""

import pytest

from t2t_vqem.inference import latency


class Slow:
    """Takes 5 milliseconds per line on its own clock, and 200 the first time it sees a line."""

    def __init__(self):
        self.lines = []
        self.now = 0.0

    def translate(self, lines):
        self.now += 0.005 if lines[0] in self.lines else 0.2
        self.lines += lines
        yield from lines


def test_each_line_is_timed_separately_without_its_first_call(monkeypatch):
    translator = Slow()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: translator.now)
    assert latency.milliseconds_each(translator, ["one", "two", "three"]) == pytest.approx(5)
    assert translator.lines == ["one", "two", "three"] * 2


@pytest.mark.parametrize(("count", "expected"), [(2, ["b", "d"]), (9, ["b", "d", "e"])])
def test_usual_lines_are_those_of_the_most_frequent_shape(count, expected):
    assert latency.usual_lines("abcdef", [8, 9, 17, 12, 16, 24], count) == expected
