"""Entry point of a Ray Data task: light to import, so that the imports that the trainer waits for are made quickly."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from asr.imports import lasting_imports
from train.examples import MicroBatchSpec, PreprocessConfig

if TYPE_CHECKING:
    from train.dataloader.preprocess import MicroBatchTensors


def prepare_bundle(row: dict[str, bytes], preprocess: PreprocessConfig) -> Iterator[dict[str, bytes]]:
    """Yield the pickled tensor rows of a row's pickled ``specs``."""
    for prepared in _prepare_all()(pickle.loads(row["orders"]), preprocess):
        yield {"row": pickle.dumps(prepared)}


@cache  # once in a process: what else there is at the end of the imports lasts as long
def _prepare_all() -> Callable[[Sequence[MicroBatchSpec], PreprocessConfig], Iterator[MicroBatchTensors]]:
    with lasting_imports():
        from train.dataloader.preprocess import prepare_all

    return prepare_all
