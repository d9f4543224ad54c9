from __future__ import annotations

from collections.abc import Sequence

import pytest

from asr.inference.isolation import each_on_its_own
from asr.transcript import Transcript


def decode(tasks: Sequence[int]) -> list[Transcript]:
    if any(task < 0 for task in tasks):
        raise ValueError(f"{min(tasks)} is negative")
    return [Transcript(str(task), (task,), "en") for task in tasks]


def test_what_cannot_be_decoded_fails_alone_and_in_its_place() -> None:
    outcomes = each_on_its_own(decode, [1, -2, 3, -4], str)
    assert [one if isinstance(one, str) else one.text for one in outcomes] == [
        "1",
        "-2 is negative",
        "3",
        "-4 is negative",
    ]


def test_a_batch_that_can_be_decoded_is_decoded_at_once() -> None:
    asked: list[int] = []

    def counted(tasks: Sequence[int]) -> list[Transcript]:
        asked.append(len(tasks))
        return decode(tasks)

    assert len(each_on_its_own(counted, [1, 2, 3], str)) == 3
    assert asked == [3]


def test_who_is_told_of_a_failure_may_end_it_all() -> None:
    def give_up(error: Exception) -> None:
        raise error

    with pytest.raises(ValueError, match="-2 is negative"):
        each_on_its_own(decode, [1, -2, 3], give_up)
