from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch

from asr.errors import UserError
from asr.model import SpeechModel
from asr.utterance import Utterance
from train.feed import Feed, Share, rows_from
from train.plan import MicroBatch, PlanConfig, plan
from train.stream import Recipe

RECIPE = Recipe("builtin:tiny.en", None, "transcribe")
PLAN = PlanConfig(max_clips=4, micro_batches_per_step=2)


def feed(utterances: Sequence[Utterance], rows: Sequence[MicroBatch], max_faulty_share: float = 0.05) -> Feed:
    return Feed(utterances, rows, RECIPE, 50256, max_faulty_share)


def durations(utterances: Sequence[Utterance]) -> list[float]:
    return [utterance.duration_s or 0.0 for utterance in utterances]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_share_is_the_rest_of_the_whole_share(flac_clips: list[Utterance], workers: int) -> None:
    lengths = durations(flac_clips)
    for rank in range(workers):
        share = Share(rank, workers)
        whole = rows_from(lengths, PLAN, 0, range(20), share)
        per_step = PLAN.micro_batches_per_step // workers
        assert len(whole) == 20 * per_step
        for first in (0, 1, 4, 13):
            assert rows_from(lengths, PLAN, 0, range(first, 20), share) == whole[first * per_step :]
        assert rows_from(lengths, PLAN, 0, range(20, 20), share) == []


def test_the_world_may_change_in_between(flac_clips: list[Utterance]) -> None:
    lengths = durations(flac_clips)
    alone = rows_from(lengths, PLAN, 0, range(10), Share(0, 1))
    rest = [rows_from(lengths, PLAN, 0, range(4, 10), Share(rank, 2)) for rank in range(2)]
    assert alone[4 * 2 :] == [row for pair in zip(*rest, strict=True) for row in pair]


def test_batches_in_order_and_a_tally_of_what_was_fed(
    ray_cluster: None, flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    rows = rows_from(durations(flac_clips), PLAN, 0, range(6), Share(0, 1))
    whole = feed(flac_clips, rows)
    batches = list(whole)
    assert [len(batch["labels"]) for batch in batches] == [len(row.utterances) for row in rows]
    for batch, row in zip(batches, rows, strict=True):
        first = flac_clips[row.utterances[0]]
        spoken = batch["labels"][0][batch["labels"][0] >= 0]
        heard = english_model.tokenizer.decode(spoken, skip_special_tokens=True)
        assert heard.strip() == first.text.strip()
    met = [flac_clips[i] for row in rows for i in row.utterances]
    assert whole.tally.utterances == len(met)
    assert whole.tally.audio_s == pytest.approx(sum(durations(met)), abs=0.01)
    assert whole.tally.faults == []
    rest = list(feed(flac_clips, rows_from(durations(flac_clips), PLAN, 0, range(4, 6), Share(0, 1))))
    for batch, expected in zip(rest, batches[-4:], strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_too_many_faults_stop_the_run_and_few_are_counted(ray_cluster: None, flac_clips: list[Utterance]) -> None:
    clips = [replace(clip, audio="/no/such.flac") if n % 4 == 0 else clip for n, clip in enumerate(flac_clips)]
    rows = list(islice((row for step in plan(durations(clips), PLAN, 0) for row in step), 8))
    tolerant = feed(clips, rows, max_faulty_share=1.0)
    assert len(list(tolerant)) == 8
    gone = sum(clips[i].audio == "/no/such.flac" for row in rows for i in row.utterances)
    assert len(tolerant.tally.faults) == gone > 2
    with pytest.raises(UserError) as caught:  # of the first hundred, two: the third fault is one too many
        list(feed(clips, rows, max_faulty_share=0.02))
    assert "3 of " in caught.value.message
    assert "missing_file: " in caught.value.message
    assert "data.max_faulty_share" in caught.value.hint
