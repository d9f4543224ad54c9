from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from asr.utterance import Utterance
from tests.train.dataloader.test_preprocess import PREPROCESS, faulty
from train.dataloader import ray_pipeline as module
from train.dataloader.preprocess import prepare
from train.dataloader.ray_pipeline import stream
from train.examples import MicroBatchSpec, PackedExample


def orders_of(clips: list[Utterance]) -> list[MicroBatchSpec]:
    groups = [clips[start : start + 3] for start in range(0, len(clips), 3)]
    return [
        MicroBatchSpec(tuple(PackedExample((clip,)) for clip in group), 5.0 + n / 8, 1.0, n)
        for n, group in enumerate([*groups, [], *groups[::-1]])
    ]


def test_ray_data_gives_the_same_rows_in_order_across_chunks(
    ray_cluster: None, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_CHUNK", 4)  # chunks of 4, 8 and 7, tasks of 1 to 3
    monkeypatch.setattr(module, "_GROWTH", 2)
    monkeypatch.setattr(module, "_FIRST_TASK", 1)
    monkeypatch.setattr(module, "_LARGEST_TASK", 3)
    monkeypatch.setattr(module, "_LAST_TASK", 1)
    specs = orders_of([*flac_clips[:20], *faulty(flac_clips[0]).values()])
    rows = list(stream(specs, PREPROCESS, tasks=2))
    assert len(rows) == len(specs) == 19
    for row, spec in zip(rows, specs, strict=True):
        direct = prepare(spec, PREPROCESS)
        for name in ("features_MT", "frames_B", "labels_BL", "unscored_B"):
            assert np.array_equal(getattr(row, name), getattr(direct, name))
        assert row.features_MT.dtype == np.float16
        for name in ("context_s", "own_s", "audio_s", "epoch", "ids", "faults"):
            assert getattr(row, name) == getattr(direct, name)


def test_an_endless_row_of_orders_is_taken_as_far_as_it_is_needed(
    ray_cluster: None, flac_clips: list[Utterance]
) -> None:
    taken = 0

    def endless() -> Iterator[MicroBatchSpec]:
        nonlocal taken
        while True:
            yield MicroBatchSpec((PackedExample((flac_clips[taken % 24],)),), 6.0, epoch=taken)
            taken += 1

    streamed = stream(endless(), PREPROCESS)
    assert [row.epoch for row in islice(streamed, 40)] == list(range(40))
    streamed.close()  # type: ignore[attr-defined]
    assert taken <= 64 + 512 + 1


def test_no_orders_no_rows() -> None:
    assert list(stream([], PREPROCESS)) == []


def test_audio_inside_the_orders_closes_a_chunk_early() -> None:
    clip = Utterance("big", bytes(module._CHUNK_BYTES // 2), "text")
    chunks = list(module._chunks(iter([MicroBatchSpec((PackedExample((clip,)),))] * 5)))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]


def test_tasks_grow_and_end_small() -> None:
    bundles = list(module._bundles([MicroBatchSpec(epoch=number) for number in range(1000)], 3))
    assert [len(bundle) for bundle in bundles] == [8, 16, 32, 64, *[128] * 4, 122, 82, 54, 36, 32, 32, 10]
    assert [spec.epoch for bundle in bundles for spec in bundle] == list(range(1000))


def test_tasks_are_bounded_by_what_they_make() -> None:
    most = module._TASK_BYTES / module._FRAME_BYTES
    bundles = list(module._bundles([MicroBatchSpec(own_s=most / 4)] * 20 + [MicroBatchSpec(own_s=2 * most)] * 3, 1))
    assert [len(bundle) for bundle in bundles] == [4, 4, 4, 4, 4, 1, 1, 1]
