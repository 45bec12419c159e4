"""Only the second time counts, when everything is compiled."""

import time

import pytest

from t2t_vqem.inference.latency import milliseconds_each, usual_lines


class Slow:
    """Takes 5 milliseconds for a line, and 200 for the first of all: a compilation."""

    def __init__(self):
        self.lines = []

    def translate(self, lines):
        time.sleep(0.005 if self.lines else 0.2)
        self.lines += lines
        yield from lines


def test_each_line_is_timed_alone_and_the_first_time_does_not_count():
    translator = Slow()
    found = milliseconds_each(translator, ["one", "two", "three"])
    assert translator.lines == ["one", "two", "three"] * 2
    assert 5 <= found < 100


@pytest.mark.parametrize("count", [2, 9])
def test_usual_lines_are_those_of_the_middle_length(count):
    lines = ["x", "x" * 50, "x" * 9, "x" * 10, "x" * 11]
    found = usual_lines(lines, count)
    assert len(found) == min(count, 5)
    assert {len(line) for line in found[:2]} < {9, 10, 11}
