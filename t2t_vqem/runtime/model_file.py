"""Takes one function of a model file for LiteRT.

An interpreter prepares all functions of its file, and has the weights again in memory for each. So
it is given a file in which the other functions have only their first operation. With none at all,
LiteRT would compute everything by its slow kernels. The file is a FlatBuffer (see
flatbuffers.dev, "Internals"); fields are numbered as in LiteRT's schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from t2t_vqem.constants import UsageError

_SUBGRAPHS, _SIGNATURES = 2, 7  # fields of a model
_OPERATORS = 3  # of a subgraph
_NAME, _SUBGRAPH = 2, 4  # of a signature
_OPTIONS_KIND, _OPTIONS = 3, 4  # of an operator
_WITH_SUBGRAPHS = (92, 93)  # the kinds of options of IF and WHILE; their fields 0 and 1 are indices


def only(content: bytes, signature: str) -> bytes:
    """Returns the model file with only the operations that a signature uses, nearly.

    Raises:
        UsageError: the content is not a model file with this signature.
    """
    try:
        return _with_ones(content, _unused(_File(content), signature))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise UsageError(f"the model file is damaged: {error}") from error


def _unused(file: _File, signature: str) -> list[int]:
    """Returns the places of the number of operators of each subgraph that is not used."""
    model = file.offset(0)
    subgraphs = list(file.tables(file.field(model, _SUBGRAPHS)))
    named = {
        file.text(file.field(entry, _NAME)): file.number(file.field(entry, _SUBGRAPH))
        for entry in file.tables(file.field(model, _SIGNATURES))
    }
    if signature not in named:
        raise UsageError(f"the model file has no {signature!r}, only {', '.join(named)}")
    used: set[int] = set()
    open_ = [named[signature]]
    while open_:
        index = open_.pop()
        if index not in used:
            used.add(index)
            open_ += file.subgraphs_in(subgraphs[index])
    unused = [subgraphs[index] for index in range(len(subgraphs)) if index not in used]
    fields = [file.field(subgraph, _OPERATORS) for subgraph in unused]
    places = [file.offset(field) for field in fields if field]
    return [place for place in places if file.number(place)]


def _with_ones(content: bytes, places: list[int]) -> bytes:
    """Returns the content with the number 1 in some places, copied once: it may be large."""
    view, parts, start = memoryview(content), [], 0
    for place in sorted(places):
        parts += [view[start:place], struct.pack("<I", 1)]
        start = place + 4
    return b"".join([*parts, view[start:]])


class _File:
    """Reads a FlatBuffer. A place is an index into its bytes; 0 stands for a missing field."""

    def __init__(self, content: bytes):
        self._content = content

    def _read(self, kind: str, place: int) -> int:
        return struct.unpack_from(f"<{kind}", self._content, place)[0]

    def offset(self, place: int) -> int:
        """Returns the place that an offset points to."""
        return place + self._read("I", place)

    def field(self, table: int, number: int) -> int:
        """Returns the place of a field of a table."""
        layout = table - self._read("i", table)
        entry = 4 + 2 * number
        if entry >= self._read("H", layout):
            return 0
        found = self._read("H", layout + entry)
        return table + found if found else 0

    def tables(self, field: int) -> Iterator[int]:
        """Yields the places of the tables in a vector."""
        if field:
            vector = self.offset(field)
            for place in range(vector + 4, vector + 4 + 4 * self._read("I", vector), 4):
                yield self.offset(place)

    def number(self, field: int) -> int:
        """Returns an unsigned number of 32 bits."""
        return self._read("I", field) if field else 0

    def text(self, field: int) -> str:
        """Returns a string."""
        start = self.offset(field)
        return self._content[start + 4 : start + 4 + self._read("I", start)].decode()

    def subgraphs_in(self, subgraph: int) -> list[int]:
        """Returns the indices of the subgraphs that a subgraph calls."""
        found = []
        for operator in self.tables(self.field(subgraph, _OPERATORS)):
            kind = self.field(operator, _OPTIONS_KIND)
            if kind and self._read("B", kind) in _WITH_SUBGRAPHS:
                options = self.offset(self.field(operator, _OPTIONS))
                found += [self.number(self.field(options, number)) for number in (0, 1)]
        return found
