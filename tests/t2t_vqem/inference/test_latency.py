"""Only the second time counts, when everything is compiled."""

import pytest

from t2t_vqem.inference import latency


class Slow:
    """Takes 5 milliseconds of its own clock for a line, and 200 for each line's first time."""

    def __init__(self):
        self.lines = []
        self.now = 0.0

    def translate(self, lines):
        self.now += 0.005 if lines[0] in self.lines else 0.2
        self.lines += lines
        yield from lines


def test_each_line_is_timed_alone_and_the_first_time_does_not_count(monkeypatch):
    translator = Slow()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: translator.now)
    assert latency.milliseconds_each(translator, ["one", "two", "three"]) == pytest.approx(5)
    assert translator.lines == ["one", "two", "three"] * 2


@pytest.mark.parametrize("count", [2, 9])
def test_usual_lines_are_those_of_the_middle_length(count):
    lines = ["x", "x" * 50, "x" * 9, "x" * 10, "x" * 11]
    found = latency.usual_lines(lines, count)
    assert len(found) == min(count, 5)
    assert {len(line) for line in found[:2]} < {9, 10, 11}
