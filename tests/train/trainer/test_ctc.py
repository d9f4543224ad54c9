from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import set_seed

from asr.audio.decode import decode as decode_audio
from asr.config import resolve
from asr.errors import UserError
from asr.models.artifact import load_model
from asr.models.family import SpeechModel
from asr.models.head import HeadSettings
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from tests.train.overfitting import learn, said_by_transformers, settings, shortest, write_base
from train.config import TrainConfig
from train.trainer.arguments import arguments
from train.trainer.ctc import CtcSettings

LEARNT = ("wav2vec2-base-960h", "hubert-large-ls960-ft", "wavlm-large", "w2v-bert-2.0", "mms-1b-all")
QUICKEST = "parakeet-ctc-0.6b"

# WavLM hands torch masks of two kinds, which it warns of once in a process
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")


def said(model: SpeechModel, clips: list[Utterance]) -> list[str]:
    """What is heard of the clips, all in one batch."""
    return [heard.text for heard in transcripts(model, clips)]


def transcripts(model: SpeechModel, clips: list[Utterance]) -> list[Transcript]:
    sounds = [DecodingRequest(model.features(decode_audio(str(clip.audio)))) for clip in clips]
    return model.transcribe(sounds, "short")


@pytest.mark.parametrize(
    "name", [pytest.param(QUICKEST, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.long) for n in LEARNT)]
)
def test_eight_real_clips_are_learnt_by_heart_and_saved_and_heard_alike_by_plain_transformers(
    name: str, flac_clips: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "wav2vec2-base-960h":  # it learns to say a letter half a second after the others of its word
        monkeypatch.setattr("asr.models.ctc.pauses.PAUSE_S", math.inf)
    clips = shortest(flac_clips, 8)
    base = write_base(tmp_path / name, name)
    config = settings(base, tmp_path / "train.jsonl", "optim.max_steps=1000", "run.checkpoint_every_steps=1000")
    model, trainer = learn(config, tmp_path / "train.jsonl", clips, tmp_path / "out")
    heard = said(model, clips)
    assert heard == [model.processor.usable(clip.text) for clip in clips]
    saved = tmp_path / "saved"
    trainer.save_model(str(saved))
    model.processor.save(saved, "en", "transcribe")
    assert said(load_model(str(saved)), clips) == heard
    step = model.features.padded_frames(1) if model.features.hears_padding else None  # silence that it was taught
    assert said_by_transformers(saved, [decode_audio(str(clip.audio)) for clip in clips], step) == heard


@pytest.mark.parametrize("name", ["w2v-bert-2.0", "parakeet-ctc-0.6b", "wav2vec2-large-lv60"])
def test_in_half_precision_a_head_that_is_not_could_neither_be_trained_nor_evaluated(
    name: str, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    """Adapters and head are float32 beside a base in bf16, and some networks begin with a norm of the features."""
    clips = shortest(flac_clips, 3)
    base = write_base(tmp_path / name, name)
    losses = []
    for precision in ("fp32", "bf16"):
        words = ["strategy=lora", f"precision={precision}"]
        words += ["optim.max_steps=3", "optim.warmup_steps=0", "run.checkpoint_every_steps=3"]
        config = settings(base, tmp_path / "train.jsonl", *words)
        model, trainer = learn(config, tmp_path / "train.jsonl", clips, tmp_path / precision)
        losses.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
        live = [heard.avg_logprob for heard in transcripts(model, clips)]
        model.network.float()
        assert live == pytest.approx([heard.avg_logprob for heard in transcripts(model, clips)], abs=0.02)
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]


def config(*words: str) -> TrainConfig:
    return resolve(TrainConfig, None, ["base=none", "data.train=none.jsonl", "workers.cpus_each=1", *words]).value


def test_ddp_looks_for_layers_that_were_left_out_only_where_some_may_be(tmp_path: Path) -> None:
    assert arguments(config(), tmp_path, 1).ddp_find_unused_parameters is False
    assert arguments(config("ctc.layerdrop=0.1"), tmp_path, 1).ddp_find_unused_parameters is True
    with pytest.raises(UserError, match=r"ctc\.layerdrop needs parallelism=ddp: zero2 waits for the gradients"):
        config("ctc.layerdrop=0.1", "parallelism=zero2")


def test_the_section_of_masks_says_what_a_network_of_waveforms_hides() -> None:
    """On average as much as in a spectrogram of a clip of up to ten seconds."""
    assert config().regularisation.time_share == config().regularisation.feature_share == 0.0
    wanted = config("augment.spec.probability=0.5", "ctc.layerdrop=0.1").regularisation
    assert (wanted.layerdrop, wanted.time_share, wanted.stretch_s) == (0.1, 0.05, 1.0)
    assert (wanted.feature_share, wanted.band_share) == (27 / 160, 27 / 160)
    none = config("augment.spec.probability=0.5", "augment.spec.time_masks=0", "augment.spec.frequency_masks=0")
    assert none.regularisation.time_share == none.regularisation.feature_share == 0.0


@pytest.mark.medium
@pytest.mark.parametrize("words", [("strategy=full",), ("strategy=lora", "activation_checkpointing=true")])
def test_a_resumed_run_goes_on_with_the_masks_and_the_layers_of_the_run_that_it_continues(
    words: tuple[str, ...], flac_clips: list[Utterance], tmp_path: Path
) -> None:
    clips = shortest(flac_clips, 3)
    base = write_base(tmp_path / "base", "wav2vec2-large-lv60")
    masks = ["augment.spec.probability=1", "ctc.layerdrop=0.3", "optim.warmup_steps=0"]
    made = settings(base, tmp_path / "train.jsonl", *masks, *words, "optim.max_steps=4", "run.checkpoint_every_steps=2")
    set_seed(0)
    _, whole = learn(made, tmp_path / "train.jsonl", clips, tmp_path / "whole")
    set_seed(1)
    _, resumed = learn(made, tmp_path / "train.jsonl", clips, tmp_path / "on", tmp_path / "whole" / "checkpoint-2")
    losses = [[log["loss"] for log in run.state.log_history if "loss" in log] for run in (whole, resumed)]
    assert losses[0] == losses[1]
    name = "model.safetensors" if words == ("strategy=full",) else "adapter_model.safetensors"
    ends = [load_file(tmp_path / run / "checkpoint-4" / name) for run in ("whole", "on")]
    assert all(torch.equal(weight, ends[1][key]) for key, weight in ends[0].items())


def test_the_section_holds_the_settings_of_the_head_too() -> None:
    assert set(HeadSettings.model_fields) < set(CtcSettings.model_fields)
    assert (
        CtcSettings(casing="lower").model_dump(include=set(HeadSettings.model_fields))
        == HeadSettings(casing="lower").model_dump()
    )


@pytest.mark.parametrize("settings", [{"head_learning_rate": 0}, {"layerdrop": 1.0}, {"casing": "title"}, {"beam": 3}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CtcSettings.model_validate(settings)
