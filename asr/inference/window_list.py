"""Windows of a recording in a sequence that cuts them when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import overload

from asr.inference.recording import Window


class WindowList(Sequence[Window]):
    """A sequence of the windows that ``source`` yields, each taken from it when it is first looked at.

    Its length, and what is counted from its end, take all of them. Safe to use from several threads.
    """

    def __init__(self, source: Iterable[Window]) -> None:
        self._source = iter(source)
        self._taken: list[Window] = []
        self._lock = Lock()
        self.complete = False  # whether all are taken

    @property
    def taken(self) -> Sequence[Window]:
        """Those that were looked at so far."""
        return tuple(self._taken)

    def has(self, count: int) -> bool:
        """Return whether there are so many; takes no more than these."""
        with self._lock:
            while len(self._taken) < count:
                window = next(self._source, None)
                if window is None:
                    self.complete = True
                    return False
                self._taken.append(window)
        return True

    def __iter__(self) -> Iterator[Window]:
        index = 0
        while self.has(index + 1):
            yield self._taken[index]
            index += 1

    def __len__(self) -> int:
        while self.has(len(self._taken) + 1):
            pass
        return len(self._taken)

    def __bool__(self) -> bool:
        return self.has(1)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice[int | None, int | None, int | None]) -> list[Window]: ...
    def __getitem__(self, index: int | slice[int | None, int | None, int | None]) -> Window | list[Window]:
        if isinstance(index, slice) or index < 0:
            return list(self)[index]
        if not self.has(index + 1):
            raise IndexError(f"window {index} of {len(self._taken)}")
        return self._taken[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"WindowList({self._taken} and what comes)"

    def __reduce__(self) -> tuple[type[WindowList], tuple[list[Window]]]:
        return WindowList, (list(self),)
