from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from asr.models.family import SpeechModel
from asr.utterance import Quarantined, Utterance
from train.data.inspect import InspectConfig, Inspection, inspect
from train.data.inspection_view import histogram_lines, show


@pytest.fixture(scope="module")
def inspection(english_clips: list[Utterance], tiny_en: SpeechModel) -> Inspection:
    odd = replace(english_clips[0], id="again", text="so é \x07 [bold]")
    rows = [*english_clips[:6], odd, Quarantined("a", "no_speech", "[beep]" * 40)]
    return inspect(rows, tiny_en.processor, InspectConfig(), english_clips[4:8])[0]


def printed(inspection: Inspection, against: str | None = "test.jsonl") -> str:
    file = io.StringIO()
    console = Console(file=file, width=120, markup=False, highlight=False)
    show(inspection, "mine.jsonl", against, "builtin:tiny.en", 448, console)
    return file.getvalue()


def test_what_a_person_reads(inspection: Inspection) -> None:
    text = printed(inspection)
    assert "8, of which 7 usable" in text
    assert "flac; 16 kHz; 1 channel" in text
    assert "same audio as an earlier clip" in text and "again = " in text
    assert "same transcript as a clip of test.jsonl" in text
    assert "LATIN SMALL LETTER E WITH ACUTE" in text and "U+0007" in text and "\x07" not in text
    assert "no_speech" in text and "a: [beep]" in text  # brackets are not markup
    assert "s per thousand clips" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_warnings_are_said(inspection: Inspection) -> None:
    text = printed(replace(inspection, warnings=("all 7 transcripts are [in] capitals",)))
    assert "warning: all 7 transcripts are [in] capitals" in text
    assert "speaking rate" in text and "letters a second" in text
    assert "warning" not in printed(inspection)


def test_nothing_is_said_about_what_there_is_none_of(inspection: Inspection) -> None:
    clean = replace(inspection, characters=(), faults={}, duplicates={}, overlap={})
    text = printed(clean, None)
    assert "no faults" in text
    assert "repeated" not in text and "characters" not in text and "overlap" not in text


def test_bars_are_as_long_as_there_are_clips() -> None:
    lines = [line.plain for line in histogram_lines([8, 4, 0, 1, *[0] * 56, 2])]
    bars = [line.count("█") for line in lines]
    assert len(lines) == 16 and bars[0] == 40 and lines[0].endswith(" 13")
    assert lines[-1].lstrip().startswith("30 s and more") and bars[-1] == 6
    short = [line.plain for line in histogram_lines([8, 4, 0, 1, *[0] * 57])]
    assert len(short) == 4 and [line.count("█") for line in short] == [40, 20, 0, 5]
    assert histogram_lines([0] * 61) == []
