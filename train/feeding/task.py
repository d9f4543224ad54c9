"""Where a task of Ray Data begins. The trainer waits for the first one, which imports first all that it needs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from asr.imports import lasting_imports
from train.examples import Recipe


def prepare_bundle(row: dict[str, Any], recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the pickled tensor rows of a row's pickled ``orders``."""
    with lasting_imports():
        from train.feeding.tensors import prepare_all

    for prepared in prepare_all(pickle.loads(row["orders"]), recipe):
        yield {"row": pickle.dumps(prepared)}
