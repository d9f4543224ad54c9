from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transformers import WhisperFeatureExtractor

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.whisper.processor import load_processor


def refused(checkpoint: Checkpoint) -> str:
    with pytest.raises(UserError) as caught:
        load_processor(checkpoint)
    assert "\n" not in str(caught.value) and "'mine'" in caught.value.message
    return str(caught.value)


def test_the_vocabulary_and_the_features_are_the_checkpoints(tiny_en_name: str) -> None:
    processor = load_processor(find_checkpoint(tiny_en_name))
    tokenizer = processor.tokenizer
    assert tokenizer.decode(tokenizer("hello", add_special_tokens=False).input_ids) == "hello"
    assert processor.features.bins == 80


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "preprocessor_config.json"])
def test_a_missing_file_is_not_replaced_by_defaults(checkpoint: Checkpoint, name: str) -> None:
    """Without a vocabulary transformers makes an empty one; without generation_config.json it stops after 20 tokens."""
    (checkpoint.folder / name).unlink()
    assert name.partition("_")[0] in refused(checkpoint).replace("feature extractor", "preprocessor")


def test_a_damaged_file(checkpoint: Checkpoint) -> None:
    path = checkpoint.folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be loaded as Whisper" in refused(checkpoint)


@pytest.mark.parametrize("name", ["feature_size", "n_fft", "hop_length", "chunk_length"])
def test_an_absurd_number_ate_all_memory_before_the_extractor_was_made(
    checkpoint: Checkpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint.folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: 10**9}))
    monkeypatch.setattr(WhisperFeatureExtractor, "from_pretrained", lambda *_: pytest.fail("it was made"))
    assert f"{name} is 1000000000" in refused(checkpoint)


@pytest.mark.slow
def test_no_network_is_imported_for_it() -> None:
    code = (
        "import sys, asr.models.whisper.processor\nprint('transformers.models.whisper.modeling_whisper' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
