from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from asr.utterance import Utterance
from tests.train.dataloader.test_preprocess import PREPROCESS
from train.dataloader.preprocess import prepare
from train.dataloader.task import prepare_bundle
from train.examples import MicroBatchSpec, PackedExample

pytestmark = pytest.mark.medium


def test_a_bundle_becomes_its_rows(flac_clips: list[Utterance]) -> None:
    specs = [MicroBatchSpec((PackedExample((clip,)),), 6.0) for clip in flac_clips[:3]]
    rows = [pickle.loads(row["row"]) for row in prepare_bundle({"orders": pickle.dumps(specs)}, PREPROCESS)]
    assert [row.ids for row in rows] == [prepare(spec, PREPROCESS).ids for spec in specs]


def test_it_is_read_before_the_heavy_imports() -> None:
    heavy = {"torch", "transformers"}
    code = f"import sys, train.dataloader.task\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_collector_is_kept_from_the_imports_and_from_nothing_that_comes_later() -> None:
    """What was garbage at the end of each bundle stayed for ever."""
    code = """
import gc, pickle, sys, types
from train.dataloader.task import prepare_bundle
stub = sys.modules["train.dataloader.preprocess"] = types.ModuleType("train.dataloader.preprocess")
stub.prepare_all = lambda orders, recipe: iter(orders)
frozen = []
for _ in range(3):
    list(prepare_bundle({"orders": pickle.dumps([1, 2])}, None))
    frozen.append(gc.get_freeze_count())
print(frozen[0] > 0, len(set(frozen)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 1\n"
