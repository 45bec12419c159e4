"""Filters of training pairs, compared with sets of Python."""

import random
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from t2t_vqem.data import filters
from t2t_vqem.data.filters import Filters, find_duplicates, hash_pair, is_in_script


@pytest.mark.parametrize(
    ("text", "scripts", "expected"),
    [
        ("A dog runs.", "latin", True),
        ("A dog runs.", "cyrillic", False),
        ("1234 !?", "cyrillic", True),
        ("", "latin", True),
        ("\u0421\u043e\u0431\u0430\u043a\u0430 TV", "cyrillic", True),
        ("\u0421\u0430 TV", "cyrillic", True),  # half of it
        ("\u0421\u0430 TVs", "cyrillic", False),
        ("\u0421\u0430 TVs", "cyrillic+latin", True),
        ("\u6f22\u5b57\u3092\u30ab", "cjk+hiragana+katakana", True),
        ("\u6f22\u5b57", "hangul", False),
        ("\uff21\uff22", "latin", True),  # full width
        ("\u00e9t\u00e9 \u0153uvre", "latin", True),
        ("\u03b1\u03b2", "greek", True),
    ],
)
def test_scripts(text, scripts, expected):
    assert is_in_script(text, scripts) == expected


def test_the_first_reason_counts():
    found = Filters(9, 2.0, copies=True, scripts=("latin", "cyrillic"))
    assert found.reasons == ["empty", "too long", "ratio", "copy", "script"]
    assert found.reason("", "a" * 99, (1, 99)) == "empty"
    assert found.reason("a", "a", (2, 10)) == "too long"
    assert found.reason("a", "a", (2, 5)) == "ratio"
    assert found.reason("a", "a", (2, 4), duplicate=True) == "copy"
    assert found.reason("a", "b", (2, 4), duplicate=True) == "duplicate"
    held_out = frozenset({"a"}), frozenset({"b"})
    assert found.reason("a", "c", (2, 4), held_out=held_out) == "held out"
    assert found.reason("c", "b", (2, 4), held_out=held_out) == "held out"
    assert found.reason("b", "a", (2, 4), held_out=held_out) == "script"
    assert found.reason("b", "\u0430", (2, 4), held_out=held_out) is None


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("ab"), st.text("xy\t", max_size=2)), min_size=1)
)
def test_duplicates_are_those_of_a_set(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("hashes") / "hashes"
    path.write_bytes(b"".join(hash_pair(a.encode(), b.encode()) for a, b in pairs))
    seen = set()
    expected = [pair in seen or seen.add(pair) or False for pair in pairs]
    assert find_duplicates(str(path)).tolist() == expected


def test_duplicates_are_found_across_blocks_and_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(filters, "_GROUP", 100)
    monkeypatch.setattr(filters, "_BLOCK", 64)
    numbers = random.Random(0).choices(range(700), k=1000)
    hashes = np.array(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    (tmp_path / "hashes").write_bytes(hashes.tobytes())
    seen = set()
    expected = [n in seen or seen.add(n) or False for n in numbers]
    assert find_duplicates(str(tmp_path / "hashes")).tolist() == expected


def test_memory_of_finding_duplicates(tmp_path, monkeypatch):
    monkeypatch.setattr(filters, "_GROUP", 1 << 15)
    monkeypatch.setattr(filters, "_BLOCK", 1 << 12)
    count = 1 << 18
    hashes = np.random.default_rng(0).integers(0, 1 << 62, count, np.uint64)
    (tmp_path / "hashes").write_bytes(hashes.tobytes())
    tracemalloc.start()
    try:
        assert not find_duplicates(str(tmp_path / "hashes")).any()
        assert tracemalloc.get_traced_memory()[1] < 16 * count
    finally:
        tracemalloc.stop()
