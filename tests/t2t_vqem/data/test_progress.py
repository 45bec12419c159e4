import logging

import pytest

from t2t_vqem.data import progress
from t2t_vqem.data.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """The clock that the progress uses, in seconds; tests set it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_logs_a_line_every_ten_seconds(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress("encoding", 1000, "pairs") as bar:
        bar.advance(200, skipped=True)
        for _ in range(4):
            clock[0] += 6
            bar.advance(100)
        clock[0] += 2
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "encoding: 400 of 1,000 pairs, 17/s, 36 s left",
        "encoding: 600 of 1,000 pairs, 17/s, 24 s left",
        "encoding: 600 of 1,000 pairs, 15/s, 26 s left",
    ]


def test_an_unknown_total_is_left_out(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress("reading", None, "lines") as bar:
        clock[0] += 2
        bar.advance(30)
    assert [record.getMessage() for record in caplog.records] == ["reading: 30 lines, 15/s"]


def test_shows_nothing_if_disabled(clock, caplog, capsys):
    caplog.set_level(logging.INFO)
    with Progress("reading", 10, "lines", enabled=False) as bar:
        clock[0] += 60
        bar.advance(5)
    assert not caplog.records
    assert capsys.readouterr().err == ""


def test_shows_a_bar_on_a_terminal(monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("encoding", 10, "pairs") as bar:
        bar.advance(4, skipped=True)
        bar.advance(6)
    assert "encoding:   0%" in capsys.readouterr().err
    assert "10 of 10 pairs" in caplog.text
