from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.audio.decode import decode as decode_audio
from asr.errors import UserError
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import (
    SpeechModel,
    family_named,
    family_of,
    family_of_network,
    load_checkpoint,
    load_processor,
    num_bytes,
)
from asr.models.whisper import loading
from asr.models.whisper.torch_backend import decode
from asr.transcript import DecodingRequest
from asr.utterance import Utterance


def test_the_family_follows_from_the_checkpoints_own_config(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert family_of(checkpoint.folder).name == "whisper"
    assert family_of_network(load_checkpoint(checkpoint).network).name == "whisper"
    kinds: list[object] = ["not here", ["whisper"], {}, None]
    named = [json.dumps({"model_type": kind}) for kind in kinds]
    for text in ("", "[]", "[" * 100_000, *named):  # its loading says what is wrong
        (tmp_path / "config.json").write_text(text)
        assert family_of(tmp_path).name == "whisper"


def test_an_artifact_of_a_family_of_a_later_version_was_a_traceback() -> None:
    with pytest.raises(UserError, match="'ctc of tomorrow' is no family of models that this version knows"):
        family_named("ctc of tomorrow")


def test_a_network_in_pefts_hands_is_of_the_same_family(checkpoint: Checkpoint) -> None:
    from peft import LoraConfig, get_peft_model

    network = load_checkpoint(checkpoint).network
    assert family_of_network(get_peft_model(network, LoraConfig(target_modules=["q_proj"]))).name == "whisper"


def test_whisper_behind_it_says_the_same_tokens(tiny_en: SpeechModel, english_clips: list[Utterance]) -> None:
    clips = [DecodingRequest(tiny_en.features(decode_audio(Path(str(clip.audio))))) for clip in english_clips[:3]]
    assert tiny_en.transcribe(clips, "full") == decode(tiny_en, clips, "full")


def test_loading_is_the_familys(tiny_en_name: str) -> None:
    found = find_checkpoint(tiny_en_name)
    ours, its = load_checkpoint(found), loading.load_checkpoint(found)
    assert all(
        torch.equal(one, other) for one, other in zip(*(m.network.parameters() for m in (ours, its)), strict=True)
    )
    assert num_bytes(ours.network) == num_bytes(its.network) > 100e6
    waveform = np.zeros(16_000, np.float32)
    assert np.array_equal(load_processor(found).features(waveform), ours.features(waveform))


@pytest.mark.medium
def test_the_contract_is_read_without_torch_or_transformers() -> None:
    code = "import sys, asr.models.family\nprint(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
