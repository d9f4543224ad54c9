from __future__ import annotations

from copy import deepcopy
from itertools import islice

import numpy as np
import pytest
import torch

from asr.models.family import SpeechModel
from asr.models.head import InitialModel
from asr.models.whisper.loss import token_loss
from asr.utterance import Utterance
from tests.train.corpora import listed, ordering, spoken
from train.augmentation.augment import Augmentation, SpeedPerturbation
from train.corpus.table import ValidatedUtterance, collect, micro_batch_specs
from train.dataloader.collate import collate
from train.dataloader.preprocess import prepare
from train.examples import MicroBatchSpec, PackedExample, PreprocessConfig
from train.sampling.batching import BatchingConfig, Item, MicroBatch
from train.sampling.packing import Packing

ZERO = 50363  # <|0.00|> of the English-only vocabulary


def test_indices_become_utterances_with_the_text_before_them() -> None:
    utterances, _ = collect([spoken(9)])
    packed = MicroBatch(3, (Item(2, 3, True, 2), Item(8)), 12.0, 20.0)
    found = micro_batch_specs(utterances, [packed, MicroBatch(4)])
    assert [(spec.epoch, spec.context_s, spec.own_s) for spec in found] == [(3, 12.0, 20.0), (4, 0.0, 0.0)]
    window, alone = found[0].examples
    assert ([each.id for each in window.utterances], window.timestamps) == (["u2", "u3", "u4"], True)
    assert window.previous == "text 0 text 1"
    assert alone == PackedExample(tuple(utterances.take([8])))
    assert found[1].examples == ()


def test_windows_have_room_for_the_slowest_of_all_speeds() -> None:
    """A pass may reach over two epochs with other speeds: its windows must fit, and be the same, in both."""
    slow = Augmentation(speed=SpeedPerturbation(probability=0.5, factors=(0.5, 1.0)))
    how = ordering(packing=Packing(window_s=20.0), augment=slow)
    utterances, _ = collect([spoken(300)])
    columns = utterances.columns()
    first, count = how.runs(columns, 0, 0)
    lengths = [columns.audio_s[start : start + size].sum() for start, size in zip(first, count, strict=True)]
    assert max(length for length, size in zip(lengths, count, strict=True) if size > 1) <= 10.0
    for epoch in range(3):
        planned = how.steps((first, count), columns, utterances.ids(), epoch)
        met = sorted(index for step in planned for batch in step for index in batch.utterances)
        assert met == list(range(300))


def test_a_clip_that_would_be_longer_than_a_window_is_planned_at_its_own_speed() -> None:
    slow = Augmentation(speed=SpeedPerturbation(probability=1.0, factors=(0.5,)))
    how = ordering(BatchingConfig(margin_s=0.0, full_window_share=0.0), augment=slow)
    utterances, _ = collect([[ValidatedUtterance(Utterance("long", "a.wav", "text", 20.0), 3)]])
    columns = utterances.columns()
    (step,) = how.steps(how.runs(columns, 0, 0), columns, utterances.ids(), 0)
    assert step[0].context_s == 20.0


@pytest.mark.slow
def test_a_decoder_trained_on_windows_keeps_timestamps(flac_clips: list[Utterance], english_model: SpeechModel) -> None:
    packing = Packing(window_s=12.0, timestamp_share=0.5, previous_text_share=0.3)
    how = ordering(BatchingConfig(max_clips=2, full_window_share=0.0), packing)
    corpus = listed(how, [ValidatedUtterance(clip, 15) for clip in flac_clips])
    preprocess = PreprocessConfig(InitialModel("builtin:tiny.en"), None, "transcribe")
    network, processor = deepcopy(english_model.network).train(), english_model.processor
    for fixed in (network.model.encoder, network.model.decoder.embed_tokens):
        fixed.requires_grad_(False)  # two thirds of the time
    optimiser = torch.optim.AdamW([one for one in network.parameters() if one.requires_grad], lr=1e-5)
    losses = []
    for step in islice(corpus.steps(0), 24):
        batch = collate(prepare(corpus.micro_batch_specs(step)[0], preprocess), processor)
        labels = batch.pop("labels")
        loss = token_loss(network(**batch), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    network.eval()
    row = prepare(MicroBatchSpec((PackedExample(tuple(flac_clips[:3]), timestamps=True),), 30.0), preprocess)
    batch = collate(row, processor)
    with torch.no_grad():
        free = network.generate(batch["input_features"], return_timestamps=True, max_new_tokens=100)[0]
    times = [(token - ZERO) * 0.02 for token in free.tolist() if token >= ZERO]
    assert len(times) >= 4
    assert len(times) % 2 == 0
    assert times == sorted(times)
    assert all(start < end for start, end in zip(times[::2], times[1::2], strict=True))
    assert times[-1] == pytest.approx(row.audio_s, abs=1.0)
