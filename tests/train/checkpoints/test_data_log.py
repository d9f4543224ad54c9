from __future__ import annotations

from pathlib import Path

import pytest

from asr.io import storage
from train.checkpoints.data_log import DataLogLine, cut, read, write
from train.dataloader.dataset import ConsumedBatch


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "l") if request.param == "local" else storage.join(request.getfixturevalue("s3"), "ledger")


@pytest.mark.medium
def test_a_step_is_what_all_workers_met_in_it(place: str) -> None:
    one = [ConsumedBatch(0, ("a", "b")), ConsumedBatch(0, ("c",)), ConsumedBatch(0, ("d",)), ConsumedBatch(1, ("a",))]
    other = [ConsumedBatch(0, ("e",)), ConsumedBatch(0, ()), ConsumedBatch(0, ("f",)), ConsumedBatch(1, ("\u2028",))]
    write(place, 0, 2, [one, other])
    write(
        place,
        2,
        3,
        [[ConsumedBatch(1, ("g",)), ConsumedBatch(1, ("h",))], [ConsumedBatch(1, ("i",)), ConsumedBatch(1, ())]],
    )
    assert list(read(place)) == [
        DataLogLine(1, 0, ["a", "b", "c", "e"]),
        DataLogLine(2, 0, ["d", "a", "f", "\u2028"]),
        DataLogLine(3, 1, ["g", "h", "i"]),
    ]
    cut(place, 2)
    assert [line.step for line in read(place)] == [1, 2]
    cut(place, 0)
    assert list(read(place)) == []


def test_there_is_nothing_to_cut_before_the_first_checkpoint(tmp_path: Path) -> None:
    cut(str(tmp_path / "none"), 0)
