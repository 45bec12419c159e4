import gzip
import itertools
import json
import logging
from typing import NamedTuple

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.inference.resume import translate_to_file
from t2t_vqem.inference.text_files import LineList

LINES = [f"Zeile {i}\u2028!" for i in range(25)]
WINDOW = 4


class Result(NamedTuple):
    text: str


class Stopped(Exception):
    pass


class Upper:
    """Translates to upper case, counts what it was asked and stops where it is told to."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.asked = []

    def __call__(self, lines, first_index):
        for index, line in enumerate(lines, start=first_index):
            if index == self.stop_at:
                raise Stopped
            self.asked.append(index)
            yield Result(line.upper())


def run(path, translate, identity=None, lines=LINES, **kwargs):
    translate_to_file(
        translate,
        LineList(lines),
        str(path),
        identity=identity or {"beam_size": 1},
        window=WINDOW,
        **kwargs,
    )


def expected(lines=LINES):
    return "".join(f"{line.upper()}\n" for line in lines).encode()


@pytest.mark.parametrize("num_lines", [0, 1, 4, 25])
def test_writes_all_lines_and_leaves_nothing_else(tmp_path, num_lines):
    path = tmp_path / "new" / "out.txt"
    run(path, Upper(), lines=LINES[:num_lines])
    assert path.read_bytes() == expected(LINES[:num_lines])
    assert [file.name for file in path.parent.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("stop_at", [0, 3, 4, 17])
@pytest.mark.parametrize("garbage", [b"", b"half a li"])
def test_stopped_run_goes_on_at_the_last_window(tmp_path, stop_at, garbage):
    path = tmp_path / "out.txt"
    path.write_bytes(b"of an earlier run\n")
    with pytest.raises(Stopped):
        run(path, Upper(stop_at))
    assert path.read_bytes() == b"of an earlier run\n"
    with open(f"{path}.partial", "ab") as file:  # what a kill may leave behind
        file.write(garbage)
    again, resumed = Upper(), []
    run(path, again, on_resume=resumed.append)
    start = stop_at // WINDOW * WINDOW
    assert again.asked == list(range(start, len(LINES)))
    assert resumed == ([start] if start else [])
    assert path.read_bytes() == expected()
    assert [file.name for file in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"identity": {"beam_size": 4}}, "beam_size"), ({"lines": LINES[:-1]}, "input")],
)
def test_other_settings_start_anew(tmp_path, caplog, change, named):
    path = tmp_path / "out.txt"
    with pytest.raises(Stopped):
        run(path, Upper(stop_at=9))
    again = Upper()
    with caplog.at_level(logging.WARNING):
        run(path, again, **change)
    assert again.asked[0] == 0
    assert f"was made with another {named}: starting over" in caplog.text
    assert path.read_bytes() == expected(change.get("lines", LINES))


@pytest.mark.parametrize("state", ["", "{}", "[]", '{"identity": 3, "lines": 1, "bytes": 1}'])
def test_a_damaged_note_starts_anew(tmp_path, state):
    path = tmp_path / "out.txt"
    with pytest.raises(Stopped):
        run(path, Upper(stop_at=9))
    (tmp_path / "out.txt.partial.json").write_text(state)
    run(path, Upper())
    assert path.read_bytes() == expected()


def test_a_partial_file_that_lost_lines_starts_anew(tmp_path, caplog):
    path = tmp_path / "out.txt"
    with pytest.raises(Stopped):
        run(path, Upper(stop_at=9))
    (tmp_path / "out.txt.partial").write_bytes(b"short")
    with caplog.at_level(logging.WARNING):
        run(path, Upper())
    assert "has 5 bytes, expected" in caplog.text
    assert path.read_bytes() == expected()


def test_progress_is_noted_only_for_what_is_written(tmp_path):
    path = tmp_path / "out.txt"
    for stop_at in (9, 18):
        with pytest.raises(Stopped):
            run(path, Upper(stop_at))
        state = json.loads((tmp_path / "out.txt.partial.json").read_text())
        written = (tmp_path / "out.txt.partial").read_bytes()
        assert state["lines"] == stop_at // WINDOW * WINDOW
        assert written[: state["bytes"]] == expected(LINES[: state["lines"]])


def test_compressed_output_is_the_same_after_a_stop(tmp_path):
    whole, stopped = tmp_path / "whole.gz", tmp_path / "stopped.gz"
    run(whole, Upper())
    with pytest.raises(Stopped):
        run(stopped, Upper(stop_at=13))
    run(stopped, Upper())
    assert gzip.decompress(whole.read_bytes()) == expected()
    assert stopped.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["stopped.gz", "whole.gz"]


def test_records_of_several_lines_are_counted_once(tmp_path):
    path = tmp_path / "out.txt"

    def twice(stop_at):
        upper = Upper(stop_at)
        return lambda lines, first_index: (
            Result(f"{found.text}\n{found.text}") for found in upper(lines, first_index)
        )

    with pytest.raises(Stopped):
        run(path, twice(9))
    resumed = []
    run(path, twice(None), on_resume=resumed.append)
    assert resumed == [8]
    assert path.read_text("utf-8") == "".join(2 * f"{line.upper()}\n" for line in LINES)


def test_compressed_output_holds_the_same_bytes(tmp_path):
    lines = ["\ufeffmarked", "PK\x03\x04", "a\r"]
    for name in ("plain", "packed.gz"):
        run(tmp_path / name, Upper(), lines=lines)
    packed = gzip.decompress((tmp_path / "packed.gz").read_bytes())
    assert packed == (tmp_path / "plain").read_bytes() == expected(lines)


def test_output_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match=f"{tmp_path}: cannot be written, it is a directory"):
        run(tmp_path, Upper())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/out.txt: cannot be written"):
        run(tmp_path / "file" / "out.txt", Upper())


def test_lines_are_read_only_as_needed(tmp_path):
    """The input may be larger than memory."""
    position = itertools.count()

    class Endless(LineList):
        def lines(self, start=0):
            return (f"{i}" for i in position)

    def two_windows(lines, first_index):
        for line in itertools.islice(lines, 2 * WINDOW):
            yield Result(line)

    translate_to_file(two_windows, Endless([]), str(tmp_path / "out"), identity={}, window=WINDOW)
    assert next(position) == 2 * WINDOW
