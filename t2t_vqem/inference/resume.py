"""Decoding to a file so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from t2t_vqem.inference.text_files import TextFile, write_lines


class Lines(Protocol):
    """Lines of text that can be read from any line on; `TextFile` is one."""

    num_lines: int
    sha256: str

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on."""


class LineList:
    """`Lines` that are held in memory."""

    def __init__(self, lines: Sequence[str]):
        self._lines = lines
        self.num_lines = len(lines)
        text = "".join(f"{line}\n" for line in lines)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on."""
        yield from self._lines[start:]


class PartialOutput:
    """The unfinished output beside `path`, and a note of what it is and how far it got.

    `PATH.partial` takes the lines as they come; `PATH.partial.json` says for which input, model
    and options they are, and how many lines and bytes are safely there. Only `finish` touches
    `path` itself, by renaming.

    Attributes:
      num_lines: Lines that need not be done again.
    """

    def __init__(self, path: str, identity: dict[str, Any]):
        """Opens the output; goes on with an earlier one if it has the same identity.

        Args:
          path: where the finished output is to be; compressed if it ends in .gz.
          identity: all that the output depends on, as JSON takes it.
        """
        self._path = path
        self._partial = f"{path}.partial"
        self._state = f"{path}.partial.json"
        self._identity = json.loads(json.dumps(identity))
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        self.num_lines, num_bytes = self._recover()
        self._file = open(self._partial, "ab")  # noqa: SIM115 (closed by `close`)
        self._file.truncate(num_bytes)  # whatever came after the last note may be half a line

    def _recover(self) -> tuple[int, int]:
        """Returns how many lines and bytes of an earlier run are usable."""
        try:
            with open(self._state, encoding="utf-8") as file:
                state = json.load(file)
            earlier, lines, size = state["identity"], state["lines"], state["bytes"]
            present = os.path.getsize(self._partial)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0
        if earlier != self._identity:
            changed = sorted(
                key
                for key in {*earlier, *self._identity}
                if earlier.get(key) != self._identity.get(key)
            )
            logging.warning(
                "%s was made with other settings (%s): starting anew",
                self._partial,
                ", ".join(changed),
            )
            return 0, 0
        if present < size:
            logging.warning("%s is shorter than it was: starting anew", self._partial)
            return 0, 0
        return lines, size

    def append(self, lines: Iterable[str]) -> None:
        """Writes lines through to the disk, then notes that they are there."""
        for line in lines:
            self._file.write(f"{line}\n".encode())
            self.num_lines += 1
        self._file.flush()
        os.fsync(self._file.fileno())
        state = {
            "identity": self._identity,
            "lines": self.num_lines,
            "bytes": self._file.tell(),
        }
        with open(f"{self._state}.new", "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)
        os.replace(f"{self._state}.new", self._state)

    def finish(self) -> None:
        """Makes the output the finished file, replacing what was there."""
        self.close()
        if self._path.endswith(".gz"):
            write_lines(self._path, TextFile(self._partial).lines())
            os.remove(self._partial)
        else:
            os.replace(self._partial, self._path)
        if os.path.exists(self._state):
            os.remove(self._state)

    def close(self) -> None:
        """Closes the partial file, leaving it for a later run."""
        self._file.close()


def translate_to_file(
    translate: Callable[..., Iterator[Any]],
    source: Lines,
    path: str,
    *,
    identity: dict[str, Any],
    window: int,
    on_resume: Callable[[int], None] | None = None,
) -> None:
    """Translates all lines of `source` into the file `path`, one line for each.

    Args:
      translate: (lines, first_index=...) -> hypotheses in order, such as `Translator.translate`.
      source: the input.
      path: the output file.
      identity: what the output depends on besides the input's content.
      window: after how many lines to note progress; lines of one window are translated together,
        so going on from the start of a window gives what an unbroken run gives.
      on_resume: called with the number of lines that an earlier run had finished, if any.
    """
    output = PartialOutput(path, {"input_sha256": source.sha256, **identity})
    try:
        start = output.num_lines
        if start:
            logging.info("%s.partial has %d lines already: going on", path, start)
            if on_resume:
                on_resume(start)
        hypotheses = translate(source.lines(start), first_index=start)
        while chunk := list(itertools.islice(hypotheses, window)):
            output.append(hypothesis.text for hypothesis in chunk)
        output.finish()
    finally:
        output.close()
