"""Data log of a run: which utterances each step was trained on, one file for the steps up to each checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from asr.io import storage
from train.dataloader.dataset import ConsumedBatch

DATA_LOG = "ledger"  # the folder, in that of the run


class DataLogLine(NamedTuple):
    """An optimiser step, counted from 1 on, and the utterances that all workers together met in it."""

    step: int
    epoch: int
    ids: list[str]


def write(uri: str, first_step: int, last_step: int, consumed: Sequence[Sequence[ConsumedBatch]]) -> None:
    """Write down the steps behind ``first_step`` up to ``last_step``: for each worker what it met, in order."""
    lines = []
    for number in range(last_step - first_step):
        step: list[ConsumedBatch] = []
        for one in consumed:
            each = len(one) // (last_step - first_step)  # all workers have equally many micro-batches in a step
            step += one[number * each : (number + 1) * each]
        line = DataLogLine(first_step + number + 1, step[0].epoch, [name for each in step for name in each.ids])
        lines.append(json.dumps(line._asdict(), ensure_ascii=False))
    storage.write_text(_file(uri, last_step), "".join(f"{line}\n" for line in lines))


def cut(uri: str, step: int) -> None:
    """Forget what was written of steps behind ``step``: they are going to be trained again."""
    if not storage.exists(uri):
        return
    for entry in storage.list_files(uri):
        if int(entry.name.partition(".")[0]) > step:
            filesystem, path = storage.resolve(entry.uri)
            filesystem.delete_file(path)


def read(uri: str) -> Iterator[DataLogLine]:
    """Yield all steps in order. Raises UserError where there is no data log."""
    for entry in storage.list_files(uri):
        for line in storage.read_text(entry.uri).rstrip("\n").split("\n"):  # an id may hold what splitlines breaks at
            yield DataLogLine(**json.loads(line))


def _file(uri: str, step: int) -> str:
    return storage.join(uri, f"{step:09d}.jsonl")
