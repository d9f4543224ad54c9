from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from asr.inference.recording import Window
from asr.inference.window_list import WindowList

THREE = [Window(0, 10), Window(10, 25), Window(40, 50)]


def cutting(asked: list[Window]) -> Iterator[Window]:
    for window in THREE:
        asked.append(window)
        yield window


def test_no_more_is_cut_than_is_looked_at() -> None:
    asked: list[Window] = []
    found = WindowList(cutting(asked))
    assert asked == []
    assert found and found[0] == THREE[0]
    assert asked == THREE[:1] and not found.complete
    assert next(iter(found)) == THREE[0] and asked == THREE[:1]
    assert found.has(2) and list(found.taken) == asked == THREE[:2]
    assert len(found) == 3 and found.complete and not found.has(4)


def test_it_is_a_sequence() -> None:
    found = WindowList(THREE)
    assert found == THREE and found == WindowList(THREE) and found != THREE[:2] and found != 3
    assert (found[-1], found[1:]) == (THREE[2], THREE[1:])
    assert list(found) == list(found) == THREE  # more than once
    assert THREE[1] in found and [*reversed(found)] == THREE[::-1]
    with pytest.raises(IndexError, match="window 3 of 3"):
        found[3]


def test_where_nobody_speaks_it_is_empty() -> None:
    found = WindowList([])
    assert not found and found == [] and found.complete


def test_it_travels_whole() -> None:
    assert pickle.loads(pickle.dumps(WindowList(cutting([])))) == THREE
