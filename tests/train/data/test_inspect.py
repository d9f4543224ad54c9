from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.data.sources.prompts import fetch
from asr.data.sources.prompts import utterances as prompts
from asr.io.cache import cache_root
from asr.models.family import SpeechModel
from asr.utterance import Quarantined, Utterance
from train.data.inspect import InspectConfig, Inspection, inspect
from train.data.prepare import Row


@pytest.fixture
def rows(english_clips: list[Utterance], tmp_path: Path) -> list[Row]:
    """Real clips, and one of each thing that may be wrong."""
    first, second, third, *rest = english_clips
    whole = decode(first.audio)
    (tmp_path / "corrupt.flac").write_bytes(Path(str(second.audio)).read_bytes()[:-9000])
    (tmp_path / "empty.flac").touch()
    return [
        first,
        second,
        third,
        *rest,
        replace(first, id="copy", text="another sentence altogether", audio=Path(str(first.audio)).read_bytes()),
        replace(second, id="said twice", audio=encode_flac(decode(second.audio) * 0.5), text=second.text.upper()),
        replace(third, text="the same id"),
        Utterance("gone", str(tmp_path / "gone.wav"), "ciao"),
        Utterance("corrupt", str(tmp_path / "corrupt.flac"), "ciao"),
        Utterance("empty", str(tmp_path / "empty.flac"), "ciao"),
        Utterance("wordless", encode_flac(whole * 0.3), "...", language="en"),
        Utterance("long", encode_flac(np.tile(whole, 1 + 31 * SAMPLE_RATE // len(whole))), "hm", language="en"),
        Utterance("chatty", encode_flac(whole * 0.7), "parole " * 300, language="it"),
        Utterance("cyrillic", encode_flac(whole * 0.6), "the lаst word", language="en"),
        Quarantined("known", "lost_letters", "pi? tardi"),
    ]


@pytest.fixture
def inspection(rows: list[Row], tiny_en: SpeechModel) -> Inspection:
    return inspect(rows, tiny_en.processor, InspectConfig(examples=20))[0]


def test_every_row_is_usable_or_a_fault(
    inspection: Inspection, rows: list[Row], english_clips: list[Utterance]
) -> None:
    assert inspection.rows == len(rows) == inspection.usable.clips + sum(inspection.faults.values())
    assert inspection.faults == {
        "duplicate_id": 1,
        "missing_file": 1,
        "truncated": 1,
        "empty_file": 1,
        "no_transcript": 1,
        "too_long": 1,
        "text_too_long": 1,
        "lost_letters": 1,
    }
    assert inspection.fault_examples["lost_letters"] == ("known: pi? tardi",)
    seconds = sum(clip.duration_s or 0 for clip in english_clips)
    assert inspection.usable.clips == len(english_clips) + 3
    assert seconds < inspection.usable.hours * 3600 < inspection.decoded.hours * 3600


def test_what_there_is(inspection: Inspection) -> None:
    assert inspection.languages["en"].clips > inspection.languages["it"].clips == 1
    assert sum(amount.clips for amount in inspection.languages.values()) == inspection.decoded.clips
    assert sum(inspection.histogram) == inspection.decoded.clips
    assert inspection.histogram[-1] == 1
    assert inspection.length_s["max"] > 31 > inspection.length_s["median"] > inspection.length_s["min"]
    assert inspection.codecs["flac"] == inspection.sample_rates["16000"] == inspection.channels["1"]
    assert 1 < inspection.tokens_per_s < 10
    assert 10 < inspection.max_label_tokens < 60


def test_planted_duplicates_are_found(inspection: Inspection, english_clips: list[Utterance]) -> None:
    assert inspection.duplicates["audio"].clips == 1
    assert inspection.duplicates["audio"].examples == ((english_clips[0].id, "copy"),)
    assert (english_clips[1].id, "said twice") in inspection.duplicates["transcript"].examples
    assert inspection.overlap == {}


def test_a_foreign_letter_is_found(inspection: Inspection) -> None:
    (odd,) = [each for each in inspection.characters if each.character == "а"]
    assert odd.name == "CYRILLIC SMALL LETTER A" and "other_script" in odd.why and odd.examples == ("cyrillic",)


def test_overlap_by_transcript_and_by_audio(english_clips: list[Utterance], tiny_en: SpeechModel) -> None:
    train, test = english_clips[:8], english_clips[8:16]
    clean, _ = inspect(train, tiny_en.processor, InspectConfig(), test)
    assert {kind: found.clips for kind, found in clean.overlap.items()} == {"transcript": 0, "audio": 0}
    leaking = [*test, replace(train[0], id="leak", text="other words"), replace(train[1], id="l2", audio=test[0].audio)]
    found, _ = inspect(train, tiny_en.processor, InspectConfig(), leaking)
    assert found.overlap["audio"].examples == (("leak", train[0].id),)
    assert found.overlap["transcript"].examples == (("l2", train[1].id),)
    assert found.rows == 8


def test_an_iterator_is_read_once_and_counted(english_clips: list[Utterance], tiny_en: SpeechModel) -> None:
    def once() -> Iterator[Row]:
        yield from english_clips[:5]

    seen: list[tuple[int, int | None]] = []
    inspect(once(), tiny_en.processor, InspectConfig(), None, lambda done, total: seen.append((done, total)))
    assert seen == [(n, None) for n in range(1, 6)]
    seen.clear()
    inspect(english_clips[:2], tiny_en.processor, InspectConfig(), english_clips[:3], lambda *now: seen.append(now))
    assert seen[-1] == (5, 5)


def test_json_holds_all_of_it(inspection: Inspection) -> None:
    data = json.loads(inspection.to_json())
    assert data["usable"]["clips"] == inspection.usable.clips
    assert data["duplicates"]["audio"]["examples"] == [list(inspection.duplicates["audio"].examples[0])]
    assert data["seconds_per_1000_clips"] > 0


def test_a_source_of_nothing_but_faults(tiny_en: SpeechModel) -> None:
    nothing, survey = inspect([Quarantined("a", "malformed_row")], tiny_en.processor, InspectConfig())
    assert nothing.faults == {"malformed_row": 1} and nothing.length_s == {} and nothing.decoded.clips == 0
    assert survey.faults == [Quarantined("a", "malformed_row")]


def test_silent_clips_are_counted(english_clips: list[Utterance], tiny_en: SpeechModel) -> None:
    silence = encode_flac(np.zeros(32_000, dtype=np.float32))
    mute = [replace(clip, id=f"mute {i}", audio=silence) for i, clip in enumerate(english_clips[:8])]
    wordless = replace(english_clips[0], id="wordless", text="", audio=silence)
    found, _ = inspect([*english_clips[8:], *mute, wordless], tiny_en.processor, InspectConfig())
    assert found.faults == {"silent": 8, "no_transcript": 1}
    assert "mute 0: 2.00 s with nothing to hear, all samples are 0" in found.fault_examples["silent"]


def test_good_speech_has_no_warning(english_clips: list[Utterance], tiny_en: SpeechModel) -> None:
    found, _ = inspect(english_clips, tiny_en.processor, InspectConfig())
    assert found.warnings == ()
    assert found.pace is not None and 8 < found.pace.letters_per_s < 20


def test_a_manifest_in_capitals_with_the_text_of_the_hour_is_warned_of(
    english_clips: list[Utterance], tiny_en: SpeechModel
) -> None:
    hour = " ".join(clip.text.upper() for clip in english_clips)
    found, _ = inspect([replace(clip, text=hour) for clip in english_clips], tiny_en.processor, InspectConfig())
    fast, capitals = found.warnings
    assert "24 of 24 transcripts are longer than anybody speaks" in fast
    assert capitals.startswith("all 24 transcripts are all in capitals, such as ") and "orthographic WER" in capitals
    assert json.loads(found.to_json())["warnings"] == [fast, capitals]


def test_a_row_that_the_source_quarantined_is_a_neighbour_too(
    english_clips: list[Utterance], tiny_en: SpeechModel
) -> None:
    """Rows are where they are in the source: what is left out of it must not shift the others against each other."""
    good, _ = prompts("it", fetch("it", cache_root()))
    clips = good[:60]
    shifted: list[Row] = [replace(clip, text=clips[i - 1].text) for i, clip in enumerate(clips)]
    shifted[10] = Quarantined(clips[10].id, "malformed_row")
    found, _ = inspect(shifted, tiny_en.processor, InspectConfig())
    assert any("the transcript 1 row after fits each clip's length better" in warning for warning in found.warnings)
    assert found.pace is not None and (found.pace.shifted or 0) > 0.9


def test_a_row_that_crashes_the_codec_loses_that_row_only(
    english_clips: list[Utterance], tiny_en: SpeechModel, crashing: bytes
) -> None:
    rows: list[Row] = [english_clips[0], Utterance("crash", crashing, "ciao"), *english_clips[1:3]]
    found = inspect(rows, tiny_en.processor, InspectConfig())[0]
    assert (found.usable.clips, found.faults) == (3, {"decoder_died": 1})
