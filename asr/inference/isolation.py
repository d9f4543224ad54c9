"""Decodes a batch so that an item that cannot be decoded fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from asr.transcript import Transcript

T = TypeVar("T")
R = TypeVar("R")

# An engine that fails so often in a row (a lost GPU, say) fails for all; one bad clip alone does not.
MAX_FAILURES = 3


def each_on_its_own(
    decode: Callable[[Sequence[T]], Sequence[Transcript]], tasks: Sequence[T], failed: Callable[[Exception], R]
) -> list[Transcript | R]:
    """Decode tasks together; where that raises, one by one, with what ``failed`` makes of an error in its task's place.

    ``failed`` is called while the error is handled, and may raise to end it all.
    """
    try:
        return list(decode(tasks))
    except Exception as error:
        if len(tasks) == 1:
            return [failed(error)]
    return [outcome for task in tasks for outcome in each_on_its_own(decode, [task], failed)]
