from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.data.sources.prompts import fetch
from asr.data.sources.prompts import utterances as prompts
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.train.checks.doctored import subject
from train.checks.data import augmentation, data, letter_case, normaliser, overlap, speaking_rate

DHIVEHI = "ދިވެހިރާއްޖެއަކީ އިންޑިޔާ ކަނޑުގައި އޮންނަ ޤައުމެކެވެ"
THAI = "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย"


def texts(clips: list[Utterance], *given: str) -> list[Utterance]:
    """The clips with other transcripts, in turn."""
    return [replace(clip, text=given[i % len(given)]) for i, clip in enumerate(clips)]


@pytest.mark.medium
def test_good_data(tmp_path: Path, english_clips: list[Utterance]) -> None:
    outcome = data(subject(tmp_path, "builtin:tiny.en", english_clips))
    assert outcome.state == "ok"
    assert outcome.detail.startswith("24 of 24 rows decoded, ")


def test_a_source_that_is_not_there(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:2])
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(UserError, match=r"train\.jsonl"):
        data(checked)


@pytest.mark.medium
def test_a_missing_clip_is_a_warning_and_many_are_an_error(tmp_path: Path, english_clips: list[Utterance]) -> None:
    gone = [replace(clip, audio=str(tmp_path / f"gone{i}.flac")) for i, clip in enumerate(english_clips[:2])]
    one = data(subject(tmp_path / "one", "builtin:tiny.en", [gone[0], *english_clips[1:]]))
    assert one.state == "warning"
    assert "1 missing_file" in one.detail and "gone0.flac" in one.detail
    with pytest.raises(
        UserError, match=r"2 of 24 sampled clips cannot be used, over data\.max_quarantined_share=0\.05"
    ):
        data(subject(tmp_path / "two", "builtin:tiny.en", [*gone, *english_clips[2:]]))


@pytest.mark.medium
def test_rows_without_words_or_of_a_minute_are_counted_without_decoding(
    tmp_path: Path, english_clips: list[Utterance]
) -> None:
    silent = replace(english_clips[0], text=" ")
    long = replace(english_clips[1], duration_s=60.0)
    outcome = data(
        subject(tmp_path, "builtin:tiny.en", [silent, long, *english_clips[2:]], "data.max_quarantined_share=0.1")
    )
    assert outcome.state == "warning"
    assert "1 no_transcript" in outcome.detail and "1 too_long" in outcome.detail


def test_validation_that_is_trained_on_is_a_warning(tmp_path: Path, english_clips: list[Utterance]) -> None:
    held_out = [replace(english_clips[0], id="again", text=english_clips[0].text.upper() + "!"), *english_clips[20:]]
    write_beside(tmp_path / "validation.jsonl", held_out)
    setting = f"data.validation={tmp_path / 'validation.jsonl'}"
    outcome = overlap(subject(tmp_path, "builtin:tiny.en", english_clips[:20], setting))
    assert outcome.state == "warning"
    assert "1 of 5 rows of data.validation (20%)" in outcome.detail and "'again'" in outcome.detail
    apart = overlap(subject(tmp_path, "builtin:tiny.en", english_clips[1:20], setting))
    assert apart.state == "ok"


def test_without_validation_there_is_no_overlap_to_look_for(tmp_path: Path, english_clips: list[Utterance]) -> None:
    assert overlap(subject(tmp_path, "builtin:tiny.en", english_clips[:2])).state == "skipped"


def test_a_validation_set_without_rows_is_an_error(tmp_path: Path, english_clips: list[Utterance]) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match=r"empty\.jsonl|data\.validation"):
        overlap(subject(tmp_path, "builtin:tiny.en", english_clips[:2], f"data.validation={tmp_path / 'empty.jsonl'}"))


def test_noise_that_is_no_audio_is_an_error(tmp_path: Path, english_clips: list[Utterance]) -> None:
    (tmp_path / "noise").mkdir()
    settings = ["augment.noise.probability=0.5", f"augment.noise.folder={tmp_path / 'noise'}"]
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:2], *settings)
    with pytest.raises(UserError, match="no audio file"):
        augmentation(checked)
    (tmp_path / "noise" / "hum.wav").write_text("hum")
    from train.augmentation.noise import recordings

    recordings.cache_clear()
    with pytest.raises(UserError, match=r"hum\.wav"):
        augmentation(checked)
    (tmp_path / "noise" / "hum.wav").write_bytes(encode_flac(np.zeros(16_000, dtype=np.float32)))
    assert augmentation(checked).detail == "noise"


def test_without_augmentation_its_step_is_skipped(tmp_path: Path, english_clips: list[Utterance]) -> None:
    assert augmentation(subject(tmp_path, "builtin:tiny.en", english_clips[:2])).state == "skipped"


def test_vowel_signs_survive_our_normaliser_and_not_whispers(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:base", texts(english_clips[:4], DHIVEHI), "language=si")
    outcome = normaliser(checked)
    assert outcome.state == "ok"
    assert "combining marks survive" in outcome.detail
    with pytest.raises(UserError, match=r"normalisation loses .* THAANA"):
        normaliser(checked, "legacy")


def test_letters_whose_case_or_form_changes_are_not_lost(tmp_path: Path, english_clips: list[Utterance]) -> None:
    odd = texts(
        english_clips[:5], "İSTANBUL Isparta", "ΟΔΟΣ ὁδός ς", "Maße ½ ﬁn ㎏", "l´amico ¨a", "10\ufe0f\u20e3 é e\u0301"
    )
    for language in ("en", "tr"):
        assert normaliser(subject(tmp_path, "builtin:base", odd, f"language={language}")).state == "ok"


def test_transcripts_of_signs_alone_leave_nothing_to_score(tmp_path: Path, english_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match=r"nothing is left to score of 2 of 4 transcripts, such as .*♪"):
        normaliser(subject(tmp_path, "builtin:tiny.en", [*texts(english_clips[:2], "♪ ♪"), *english_clips[2:4]]))
    few = normaliser(subject(tmp_path, "builtin:tiny.en", [*texts(english_clips[:1], "♪ ♪"), *english_clips[1:24]]))
    assert few.state == "warning"


def test_a_language_without_spaces_is_to_be_read_by_characters(tmp_path: Path, english_clips: list[Utterance]) -> None:
    thai = texts(english_clips[:4], THAI)
    for language in ("th", "si"):  # told by the language, or by the transcripts
        outcome = normaliser(subject(tmp_path, "builtin:base", thai, f"language={language}"))
        assert "read the CER" in outcome.detail
    english = normaliser(subject(tmp_path, "builtin:tiny.en", english_clips))
    assert "CER" not in english.detail


@pytest.mark.medium
def test_silent_clips_with_words_are_a_finding(tmp_path: Path, english_clips: list[Utterance]) -> None:
    silence = encode_flac(np.zeros(32_000, dtype=np.float32))
    (tmp_path / "silence.flac").write_bytes(silence)
    mute = [replace(clip, audio=str(tmp_path / "silence.flac"), duration_s=2.0) for clip in english_clips[:8]]
    outcome = data(subject(tmp_path, "builtin:tiny.en", [mute[0], *english_clips[1:]]))
    assert outcome.state == "warning" and "1 silent" in outcome.detail and "nothing to hear" in outcome.detail
    with pytest.raises(UserError, match=r"8 of 24 sampled clips cannot be used.*8 silent"):
        data(subject(tmp_path / "all", "builtin:tiny.en", [*mute, *english_clips[8:]]))


def test_a_manifest_all_in_capitals_does_not_pass_without_a_word(
    tmp_path: Path, english_clips: list[Utterance]
) -> None:
    assert letter_case(subject(tmp_path, "builtin:tiny.en", english_clips)).state == "ok"
    loud = [replace(clip, text=clip.text.upper()) for clip in english_clips]
    outcome = letter_case(subject(tmp_path / "loud", "builtin:tiny.en", loud))
    assert outcome.state == "warning"
    assert "data.train: all 24 transcripts are all in capitals" in outcome.detail
    assert "orthographic WER" in outcome.hint


def test_one_source_of_several_and_the_validation_set_are_named(tmp_path: Path, english_clips: list[Utterance]) -> None:
    small = [
        replace(clip, text="".join(c for c in clip.text.lower() if c.isalpha() or c == " ")) for clip in english_clips
    ]
    write_beside(tmp_path / "small.jsonl", small)
    sources = f"data.train=[{tmp_path / 'train.jsonl'}, {tmp_path / 'small.jsonl'}]"
    checked = subject(
        tmp_path, "builtin:tiny.en", english_clips, sources, f"data.validation={tmp_path / 'small.jsonl'}"
    )
    outcome = letter_case(checked)
    assert outcome.detail.count("have no capital") == 2
    assert "data.train[1]: all 24" in outcome.detail and "data.validation: all 24" in outcome.detail
    assert len(checked.training.utterances) == 48


@pytest.mark.medium
def test_transcripts_of_the_row_before_do_not_pass(tmp_path: Path, mixed_clips: list[Utterance]) -> None:
    good = speaking_rate(subject(tmp_path, "builtin:tiny.en", mixed_clips))
    assert good.state == "ok" and "rank correlation of text and length 0.9" in good.detail
    shifted = [replace(clip, text=mixed_clips[i - 1].text) for i, clip in enumerate(mixed_clips)]
    outcome = speaking_rate(subject(tmp_path / "shifted", "builtin:tiny.en", shifted))
    assert outcome.state == "warning" and "the transcript 1 row after fits" in outcome.detail
    assert "listen to some clips" in outcome.hint


@pytest.mark.medium
def test_the_transcript_of_the_hour_with_each_clip_does_not_pass(
    tmp_path: Path, english_clips: list[Utterance]
) -> None:
    hour = " ".join(clip.text for clip in english_clips)
    outcome = speaking_rate(subject(tmp_path, "builtin:tiny.en", texts(english_clips, hour)))
    assert outcome.state == "warning" and "24 of 24 transcripts are longer than anybody speaks" in outcome.detail


@pytest.fixture(scope="module")
def mixed_clips() -> list[Utterance]:
    """80 prompts of all lengths, in the order of their names."""
    good, _ = prompts("en", fetch("en", cache_root()))
    return good[:80]
