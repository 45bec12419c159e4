"""Decodes to a file in such a way that a killed run can be resumed."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from t2t_vqem.files import check_output, move, write_json
from t2t_vqem.inference.text_files import Lines, is_compressed, open_output

_logger = logging.getLogger(__name__)


class PartialOutput:
    """The unfinished output of decoding, with a state file.

    Records are appended to `PATH.partial`, one for each line of the input; a record has one or
    several lines. `PATH.partial.json` has the identity of the output (input, model and options),
    and the number of records and bytes that are safely on the disk. Only `finish` changes `path`
    itself, by renaming.

    Attributes:
      num_lines: number of finished lines of the input.
    """

    def __init__(self, path: str, identity: dict[str, Any]):
        """Opens the output; continues an earlier one if it has the same identity.

        Args:
          path: path of the finished output; compressed if `open_output` compresses it.
          identity: JSON value with everything that the output depends on.

        Raises:
          UsageError: the output cannot be written.
        """
        path = os.path.realpath(path)  # a symbolic link is kept and points to the output
        self._path = path
        self._partial = f"{path}.partial"
        self._state = f"{path}.partial.json"
        self._identity = json.loads(json.dumps(identity))
        self.num_lines, num_bytes = self._recover()
        check_output(path)
        self._file = open(self._partial, "ab")  # noqa: SIM115 (closed by `close`)
        self._file.truncate(num_bytes)  # data after the last saved state may be incomplete

    def _recover(self) -> tuple[int, int]:
        """Returns the number of lines and bytes of an earlier run that can be kept."""
        try:
            with open(self._state, encoding="utf-8") as file:
                state = json.load(file)
            earlier, lines, size = state["identity"], state["lines"], state["bytes"]
            changed = sorted(
                key
                for key in {*earlier, *self._identity}
                if earlier.get(key) != self._identity.get(key)
            )
            present = os.path.getsize(self._partial)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return 0, 0  # the state file is missing or invalid
        if changed:
            _logger.warning(
                "%s was made with another %s: starting over", self._partial, ", ".join(changed)
            )
            return 0, 0
        if present < size:
            _logger.warning(
                "%s has %d bytes, expected %d: starting over", self._partial, present, size
            )
            return 0, 0
        return lines, size

    def append(self, records: Iterable[str]) -> None:
        """Appends records, syncs them to the disk, then saves the state."""
        for record in records:
            self._file.write(f"{record}\n".encode())
            self.num_lines += 1
        self._file.flush()
        os.fsync(self._file.fileno())
        state = {
            "identity": self._identity,
            "lines": self.num_lines,
            "bytes": self._file.tell(),
        }
        write_json(self._state, state)

    def finish(self) -> None:
        """Renames the output to its final name, replacing an existing file."""
        self.close()
        if is_compressed(self._path):
            with open(self._partial, "rb") as partial, open_output(self._path) as output:
                shutil.copyfileobj(partial, output)
            os.remove(self._partial)
        else:
            move(self._partial, self._path)
        if os.path.exists(self._state):
            os.remove(self._state)

    def close(self) -> None:
        """Closes the partial file, which stays for a later run."""
        self._file.close()


def translate_to_file(
    translate: Callable[..., Iterator[Any]],
    source: Lines,
    path: str,
    *,
    identity: dict[str, Any],
    window: int,
    on_resume: Callable[[int], None] = lambda num_lines: None,
) -> None:
    """Translates all lines of `source` into the file `path`, in order.

    Args:
      translate: (lines, first_index=...) -> for each line something with `text`, which is written,
        such as the hypotheses of `Translator.translate`. The text may have several lines.
      source: the input.
      path: the output file.
      identity: what the output depends on besides the input's content.
      window: after how many lines to note progress. Lines of one window are translated together,
        so going on from the start of a window gives what an unbroken run gives.
      on_resume: called with the number of lines that an earlier run had finished, if any.
    """
    output = PartialOutput(path, {"input": source.sha256, **identity})
    try:
        start = output.num_lines
        if start:
            _logger.info("%s.partial has %d lines already: going on from there", path, start)
            on_resume(start)
        hypotheses = translate(source.lines(start), first_index=start)
        while chunk := list(itertools.islice(hypotheses, window)):
            output.append(hypothesis.text for hypothesis in chunk)
        output.finish()
    finally:
        output.close()
