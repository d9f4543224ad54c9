from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.data.segments import LabelledSegment
from asr.errors import DataError, UserError
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.processor import CtcProcessor, load_processor
from tests.asr.models.ctc import tiny

WAVE, MASKED, WHISPER = "wav2vec2-base-960h", "wav2vec2-large-lv60", "whisper-tiny"


@pytest.fixture
def processor_of(checkpoint: Callable[[str], Path]) -> Callable[[str], CtcProcessor]:
    return lambda name: load_processor(Checkpoint(name, checkpoint(name), "sha256:1"))


def clips(processor: CtcProcessor, *seconds: float) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [processor.features(random.standard_normal(round(16000 * each)).astype(np.float32)) for each in seconds]


def test_a_transcript_is_learnt_as_the_vocabulary_writes_it(processor_of: Callable[[str], CtcProcessor]) -> None:
    processor = processor_of(WAVE)
    assert processor.usable(" Hello, World! ") == "hello world"
    label = processor.label([LabelledSegment(0, 1, "Hello,"), LabelledSegment(1, 2, "World!")], "en", "transcribe")
    assert processor.vocabulary.decode(label) == "hello world"
    assert processor.text_lengths(["hello world"]) == [len(label)]


def test_letters_that_the_vocabulary_lacks_are_named(processor_of: Callable[[str], CtcProcessor]) -> None:
    with pytest.raises(DataError, match=r"unknown_letters: ß"):
        processor_of(WAVE).usable("straße")


@pytest.mark.parametrize("text", ["", " ", "?!"])
def test_a_transcript_without_letters_is_none(text: str, processor_of: Callable[[str], CtcProcessor]) -> None:
    with pytest.raises(DataError, match="no_transcript"):
        processor_of(WAVE).usable(text)


def test_a_clip_too_short_for_its_letters_is_named(processor_of: Callable[[str], CtcProcessor]) -> None:
    processor = processor_of(WAVE)
    there = processor.num_positions(0.4)
    fits = ("ab" * there)[:there]
    assert processor.usable(fits, 0.4) == fits
    with pytest.raises(DataError, match=f"label_needs_more_frames: {there} symbols need {2 * there - 1} positions"):
        processor.usable("a" * there, 0.4)  # a blank between two of the same
    with pytest.raises(DataError, match="label_needs_more_frames"):
        processor.label([LabelledSegment(0.0, 0.4, "a" * there)], "en", "transcribe")


def test_no_task_but_transcription(processor_of: Callable[[str], CtcProcessor]) -> None:
    processor = processor_of(WAVE)
    processor.require("dv", "transcribe")  # any language may be spelled
    with pytest.raises(UserError, match="cannot translate"):
        processor.require("en", "translate")


@pytest.mark.parametrize("name", [WAVE, MASKED, WHISPER, "w2v-bert-2.0", "parakeet-ctc-0.6b"])
def test_a_batch_is_padded_to_its_longest_clip_or_to_the_context(
    name: str, processor_of: Callable[[str], CtcProcessor]
) -> None:
    processor = processor_of(name)
    labels = np.array([[5, 6], [7, -100]])
    given = clips(processor, 1.0, 2.3)
    batch = processor.collate(given, labels, np.zeros(2, np.int64), 4.0)
    assert batch["labels"].tolist() == labels.tolist()
    seconds = 4.0 if processor.features.hears_padding else 2.3
    assert processor.encoded_s(batch) == pytest.approx(2 * seconds, abs=0.2)
    longest = processor.collate(given, labels, np.zeros(2, np.int64), 100.0)
    assert processor.encoded_s(longest) <= 2 * processor.window_s + 0.5


def test_what_is_saved_is_read_again(processor_of: Callable[[str], CtcProcessor], tmp_path: Path) -> None:
    for name in (WAVE, "parakeet-ctc-0.6b"):
        folder = tmp_path / name
        folder.mkdir()
        processor_of(name).save(folder, None, "transcribe")
        again = load_processor(Checkpoint(name, folder, "sha256:1"))
        assert again.vocabulary == processor_of(name).vocabulary
        assert again.about == processor_of(name).about


def test_a_head_of_another_size_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "wrong", WAVE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 12}))
    with pytest.raises(UserError, match="the head has 12 outputs"):
        load_processor(Checkpoint("wrong", folder, "sha256:1"))


def test_a_missing_feature_extractor_is_one_line(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "without", WAVE)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="'without' cannot be loaded as a CTC model"):
        load_processor(Checkpoint("without", folder, "sha256:1"))


@pytest.mark.parametrize("value", ["-1", "0", "Infinity", "NaN", '"text"', "null", "[]", "{}", "true", "9" * 20])
@pytest.mark.parametrize("key", ["vocab_size", "pad_token_id", "hidden_size", "num_hidden_layers", "conv_stride"])
def test_a_hostile_config_is_one_line(key: str, value: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    for path in checkpoint(WAVE).iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(settings | {key: "@"}).replace('"@"', value))
    base = Checkpoint("hostile", tmp_path, "sha256:1")
    if (key, value) in (("pad_token_id", "0"), ("pad_token_id", "null")):
        return  # what it is, and what transformers takes for it
    with pytest.raises(UserError) as caught:
        load_processor(base)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 700
