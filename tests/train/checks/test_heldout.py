from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.errors import UserError
from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.train.checks.doctored import subject
from train.checks.heldout import audio
from train.checks.subject import Subject


def checked(folder: Path, clips: list[Utterance], **sets: list[Utterance]) -> Subject:
    folder.mkdir(exist_ok=True)
    for name, rows in sets.items():
        write_beside(folder / f"{name}.jsonl", rows)
    settings = [f"data.{name}={folder / name}.jsonl" for name in sets]
    return subject(folder, "builtin:tiny.en", clips, *settings)


def test_without_anything_to_score_there_is_nothing_to_decode(tmp_path: Path, english_clips: list[Utterance]) -> None:
    assert audio(checked(tmp_path, english_clips[:2])).state == "skipped"


@pytest.mark.medium
def test_validation_that_no_worker_can_read_is_known_before_the_run(
    tmp_path: Path, english_clips: list[Utterance]
) -> None:
    """A run died of it at its first evaluation."""
    good, bad = english_clips[2:8], [replace(clip, audio=str(tmp_path / f"{clip.id}.mp3")) for clip in english_clips]
    outcome = audio(checked(tmp_path / "good", english_clips[:2], validation=good, retention=good[:3]))
    assert outcome.state == "ok"
    assert outcome.detail == "6 of 6 clips of data.validation decoded, 3 of 3 clips of data.retention decoded"
    with pytest.raises(UserError, match=r"24 of 24 clips of data\.validation cannot be evaluated.*24 missing_file"):
        audio(checked(tmp_path / "gone", english_clips[:2], validation=bad))
    with pytest.raises(UserError, match=r"of data\.validation cannot.*of data\.retention cannot"):
        audio(checked(tmp_path / "both", english_clips[:2], validation=bad, retention=bad[:3]))


@pytest.mark.medium
@pytest.mark.parametrize("name", ["validation", "retention"])
def test_sound_that_cannot_be_decoded_is_a_warning_and_much_of_it_an_error(
    name: str, tmp_path: Path, english_clips: list[Utterance]
) -> None:
    (tmp_path / "noise.wav").write_text("these are words, not sounds")
    faulty = replace(english_clips[0], id="faulty", audio=str(tmp_path / "noise.wav"))
    sets = {"validation": english_clips[2:], name: [faulty, *english_clips[2:]]}
    outcome = audio(checked(tmp_path / "one", english_clips[:2], **sets))
    assert outcome.state == "warning"
    assert f"data.{name}: 1 not_audio, such as 'faulty'" in outcome.detail
    with pytest.raises(UserError, match=rf"1 of 2 clips of data\.{name} cannot be evaluated"):
        audio(checked(tmp_path / "two", english_clips[:2], **sets | {name: [faulty, english_clips[2]]}))


@pytest.mark.medium
def test_held_out_clips_in_which_there_is_nothing_to_hear_are_told(
    tmp_path: Path, english_clips: list[Utterance]
) -> None:
    (tmp_path / "mute.flac").write_bytes(encode_flac(np.zeros(32_000, dtype=np.float32)))
    mute = replace(english_clips[0], id="mute", audio=str(tmp_path / "mute.flac"))
    outcome = audio(checked(tmp_path / "one", english_clips[:2], validation=[mute, *english_clips[2:]]))
    assert outcome.state == "warning" and "data.validation: 1 silent, such as 'mute'" in outcome.detail
