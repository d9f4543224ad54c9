from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.audio import SAMPLE_RATE, decode, encode_flac
from asr.errors import UserError
from asr.features import num_frames
from asr.labels import IGNORED
from asr.model import SpeechModel
from asr.utterance import Utterance
from train.collate import collate
from train.plan import MicroBatch
from train.stream import Recipe, prepare, stream
from train.trainer import token_loss

RECIPE = Recipe("builtin:tiny.en", None, "transcribe")


def faulty(clip: Utterance) -> dict[str, Utterance]:
    """One utterance for each reason, made from a good one."""
    long = encode_flac(np.random.default_rng(0).uniform(-0.1, 0.1, 31 * SAMPLE_RATE).astype(np.float32))
    return {
        "missing_file": replace(clip, id="gone", audio="/no/such/file.flac"),
        "no_transcript": replace(clip, id="empty", text="  "),
        "label_too_long": replace(clip, id="wordy", text="one two " * 300),
        "too_long": replace(clip, id="long: very", audio=long, duration_s=31.0),
        "not_audio": replace(clip, id="text", audio=b"these are words, not sounds"),
    }


def test_features_of_true_length_and_labels_of_what_is_said(
    flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    clips = flac_clips[:3]
    row = prepare(clips, 6.0, RECIPE)
    waveforms = [decode(clip.audio) for clip in clips]
    assert row["frames_B"].tolist() == [num_frames(len(waveform)) for waveform in waveforms]
    assert row["features_MT"].dtype == np.float16
    parts = np.split(row["features_MT"], np.cumsum(row["frames_B"])[:-1], axis=1)
    for part, waveform in zip(parts, waveforms, strict=True):
        assert np.array_equal(part, english_model.log_mel(waveform))
    tokenizer = english_model.tokenizer
    for label, clip in zip(row["labels_BL"].tolist(), clips, strict=True):
        spoken = [token for token in label if token != IGNORED]
        assert tokenizer.convert_ids_to_tokens(spoken[:2]) == ["<|startoftranscript|>", "<|notimestamps|>"]
        assert spoken[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(spoken, skip_special_tokens=True) == f" {clip.text.strip()}"
        assert set(label[len(spoken) :]) <= {IGNORED}
    assert row["audio_s"] == pytest.approx(sum(clip.duration_s or 0.0 for clip in clips), abs=1e-3)
    assert (row["context_s"], row["faults"]) == (6.0, [])


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(flac_clips: list[Utterance]) -> None:
    good, bad = flac_clips[:2], faulty(flac_clips[0])
    row = prepare([good[0], *bad.values(), good[1]], 6.0, RECIPE)
    assert [fault.split(": ")[0] for fault in row["faults"]] == list(bad)
    for fault, utterance in zip(row["faults"], bad.values(), strict=True):
        assert f": {utterance.id}" in fault
    assert row["faults"][0].startswith("missing_file: gone: /no/such/file.flac")
    alone = prepare(good, 6.0, RECIPE)
    assert np.array_equal(row["features_MT"], alone["features_MT"])
    assert np.array_equal(row["labels_BL"], alone["labels_BL"])
    assert row["audio_s"] == alone["audio_s"]


@pytest.mark.parametrize("usable", [0, 2])
def test_a_micro_batch_without_a_token_costs_nothing(
    usable: int, flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    utterances = list(faulty(flac_clips[0]).values()) if usable else []
    row = prepare(utterances, 0.0, RECIPE)
    assert (row["audio_s"], len(row["faults"])) == (0.0, len(utterances))
    batch = collate(row, english_model.tokenizer.pad_token_id)
    labels = batch.pop("labels")
    assert (labels == IGNORED).all()
    with torch.no_grad():
        outputs = english_model.network(**batch)
    assert torch.isfinite(outputs.logits).all()
    assert token_loss(outputs, labels).item() == 0.0
    assert token_loss(outputs, labels, torch.tensor(7)).item() == 0.0


def test_a_language_that_the_checkpoint_cannot_speak_is_a_persons_mistake(flac_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match="English only, not 'it'"):
        prepare([replace(flac_clips[0], language="it")], 6.0, RECIPE)


def test_ray_data_gives_the_same_rows_in_order(ray_cluster: None, flac_clips: list[Utterance], tmp_path: Path) -> None:
    utterances = [*flac_clips[:20], *faulty(flac_clips[0]).values()]
    groups = [tuple(range(start, min(start + 3, len(utterances)))) for start in range(0, len(utterances), 3)]
    plan = [MicroBatch(0, group, 5.0 + n / 8) for n, group in enumerate([*groups, (), *groups[::-1]])]
    streamed = stream(utterances, plan, RECIPE)
    assert len(list(islice(streamed, 2))) == 2
    rows = list(stream(utterances, plan, RECIPE))
    assert len(rows) == len(plan)
    for row, planned in zip(rows, plan, strict=True):
        direct = prepare([utterances[i] for i in planned.utterances], planned.context_s, RECIPE)
        for name in ("features_MT", "frames_B", "labels_BL"):
            assert np.array_equal(row[name], direct[name])  # type: ignore[literal-required]
        assert row["features_MT"].dtype == np.float16
        assert (row["context_s"], row["audio_s"]) == (direct["context_s"], direct["audio_s"])
        assert list(row["faults"]) == direct["faults"]
