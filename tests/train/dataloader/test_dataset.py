from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch

from asr.audio.features import FRAMES_PER_S
from asr.errors import UserError
from asr.models.family import SpeechModel
from asr.models.head import InitialModel
from asr.models.processor import IGNORED
from asr.utterance import Quarantined, Utterance
from tests.train.corpora import listed, ordering
from tests.train.padding import padding
from train.corpus.static import StaticCorpus
from train.corpus.table import ValidatedUtterance
from train.dataloader.dataset import ConsumedBatch, MicroBatchDataset, RankSlice, WorkerShard
from train.examples import PreprocessConfig
from train.sampling.batching import BatchingConfig, MicroBatch

PREPROCESS = PreprocessConfig(InitialModel("builtin:tiny.en"), None, "transcribe")
PLAN = BatchingConfig(max_clips=4, micro_batches_per_step=2)
ALONE = RankSlice(0, 1)


def corpus(clips: Sequence[Utterance]) -> StaticCorpus:
    return listed(ordering(PLAN), [ValidatedUtterance(clip, 12) for clip in clips])


def dataset(clips: Sequence[Utterance], steps: range, max_quarantined_share: float = 0.05) -> MicroBatchDataset:
    return MicroBatchDataset(WorkerShard(corpus(clips), steps, ALONE), PREPROCESS, max_quarantined_share)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_share_out_each_step_and_get_equally_many(workers: int) -> None:
    step = tuple(MicroBatch(7, context_s=float(n)) for n in range(1, 7))
    shares = [RankSlice(rank, workers).of(step) for rank in range(workers)]
    assert {len(rank_slice) for rank_slice in shares} == {-(-6 // workers)}
    given = Counter(batch for rank_slice in shares for batch in rank_slice if batch.context_s)
    assert given == Counter(step)
    idle = [batch for rank_slice in shares for batch in rank_slice if not batch.context_s]
    assert idle == [MicroBatch(7)] * (-6 % workers)


def test_batches_in_order_and_a_tally_of_what_was_fed(
    ray_cluster: None, flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    steps = list(islice(corpus(flac_clips).steps(0), 6))
    rows = [row for step in steps for row in step]
    whole = dataset(flac_clips, range(6))
    batches = list(whole)
    assert [len(batch["labels"]) for batch in batches] == [len(row.items) for row in rows]
    for batch, row in zip(batches, rows, strict=True):
        first = flac_clips[row.utterances[0]]
        spoken = batch["labels"][0][batch["labels"][0] >= 0]
        heard = english_model.tokenizer.decode(spoken, skip_special_tokens=True)
        assert heard.strip() == first.text.strip()
    consumed = [flac_clips[i] for row in rows for i in row.utterances]
    stats = pickle.loads(pickle.dumps(whole.stats))
    assert stats.utterances == len(consumed)
    assert stats.audio_s == pytest.approx(sum(clip.duration_s or 0.0 for clip in consumed), abs=0.01)
    assert stats.tokens == sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
    frames = sum(batch["input_features"].shape[0] * batch["input_features"].shape[2] for batch in batches)
    assert stats.encoded_s == pytest.approx(frames / FRAMES_PER_S)
    assert stats.own_s == pytest.approx(sum(row.own_s for row in rows), abs=len(rows) / FRAMES_PER_S)
    assert stats.padding_share == pytest.approx(padding(steps), abs=0.01)
    assert stats.quarantined == []
    data_log = whole.take_consumed()
    assert data_log == [ConsumedBatch(row.epoch, tuple(flac_clips[i].id for i in row.utterances)) for row in rows]
    assert whole.take_consumed() == []
    rest = list(dataset(flac_clips, range(4, 6)))
    for batch, expected in zip(rest, batches[-4:], strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_too_many_faults_stop_the_run_and_few_are_counted(ray_cluster: None, flac_clips: list[Utterance]) -> None:
    clips = [replace(clip, audio="/no/such.flac") if n % 4 == 0 else clip for n, clip in enumerate(flac_clips)]
    tolerant = dataset(clips, range(4), max_quarantined_share=1.0)
    assert len(list(tolerant)) == 8
    consumed = [name for each in tolerant.take_consumed() for name in each.ids]
    gone = {clip.id for clip in clips if clip.audio == "/no/such.flac"}
    faults = tolerant.stats.quarantined
    assert [fault.id for fault in faults] == [name for name in consumed if name in gone]
    assert {fault.reason for fault in faults} == {"missing_file"}
    assert len(faults) > 2
    with pytest.raises(UserError, match=r"[3-9] of \d+ utterances could not be used, the last: missing_file: "):
        list(dataset(clips, range(4), max_quarantined_share=0.02))  # of the first hundred, two are borne


def test_what_the_corpus_could_not_use_is_told_once_by_the_first_worker(
    ray_cluster: None, flac_clips: list[Utterance]
) -> None:
    source = corpus(flac_clips)
    source.quarantined = [Quarantined("silent", "no_transcript")]
    all_stats = []
    for rank in range(2):
        one = MicroBatchDataset(WorkerShard(source, range(1), RankSlice(rank, 2)), PREPROCESS, 0.05)
        list(one)
        all_stats.append(one.stats)
    assert [stats.quarantined for stats in all_stats] == [source.quarantined, []]
