from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, encode_flac
from asr.errors import UserError
from asr.models.head import InitialModel
from asr.utterance import Quarantined, Utterance
from tests.asr.sounds import CODECS, encoded, tone
from train.corpus.table import ValidatedUtterance
from train.corpus.validation import CorpusValidator, require_usable
from train.examples import PreprocessConfig

RULES = CorpusValidator(PreprocessConfig(InitialModel("builtin:tiny.en"), None, "transcribe"))
GOOD = Utterance("good", "/no/matter.wav", "some words", 2.5)


def validate(
    rows: Iterable[Utterance | Quarantined], rules: CorpusValidator = RULES
) -> tuple[list[ValidatedUtterance], list[Quarantined]]:
    quarantined: list[Quarantined] = []
    return list(rules.validate(rows, quarantined)), quarantined


@pytest.mark.medium
def test_what_cannot_be_used_is_quarantined_by_name_with_its_reason() -> None:
    bad = {
        "no_transcript": replace(GOOD, id="silent", text=" \n"),
        "special_token": replace(GOOD, id="markup", text="so <|endoftext|>"),
        "label_too_long": replace(GOOD, id="wordy", text="one two " * 300),
        "too_short": replace(GOOD, id="click", duration_s=0.05),
        "too_long": replace(GOOD, id="lecture", duration_s=30.01),
        "missing_file": replace(GOOD, id="unmeasured", duration_s=None),
        "malformed_row": Quarantined("row 7", "malformed_row", "no audio"),
    }
    last = replace(GOOD, id="last", duration_s=30.0)
    validated, quarantined = validate([GOOD, *bad.values(), last])
    assert [(each.id, each.reason) for each in quarantined if each.reason != "label_too_long"] == [
        (row.id, reason) for reason, row in bad.items() if reason != "label_too_long"
    ]
    assert Quarantined("wordy", "label_too_long", "603 tokens, a label has room for 448") in quarantined
    assert [(row.utterance.id, row.follows) for row in validated] == [("good", True), ("last", False)]
    assert validated[0].tokens == 2  # " some words"


@pytest.mark.medium
def test_a_missing_duration_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(encode_flac(np.zeros(3 * SAMPLE_RATE, np.float32)))
    rows = [
        replace(GOOD, id="whole", audio=str(tmp_path / "a.flac"), duration_s=None),
        replace(GOOD, id="rest", audio=str(tmp_path / "a.flac"), duration_s=None, start_s=1.0),
        replace(GOOD, id="cut", audio=str(tmp_path / "a.flac"), duration_s=None, start_s=1.0, end_s=1.5),
        replace(GOOD, id="inline", audio=(tmp_path / "a.flac").read_bytes(), duration_s=0.0),
    ]
    validated, quarantined = validate(rows)
    assert [row.utterance.duration_s for row in validated] == pytest.approx([3.0, 2.0, 0.5, 3.0])
    assert quarantined == []


def test_long_clips_are_split_at_their_segments_where_that_is_asked_for() -> None:
    times = [(0.0, 12.0), (13.0, 25.0), (25.0, 31.0), (31.0, 66.0), (66.0, 70.0)]
    meta = {"segments": [{"start": start, "end": end, "text": f"from {start:g}"} for start, end in times]}
    lecture = replace(GOOD, id="lecture", duration_s=70.0, meta=meta)
    blind = replace(GOOD, id="blind", duration_s=31.0)
    validated, quarantined = validate([GOOD, lecture, blind], replace(RULES, long_clips="split"))
    assert [row.utterance.id for row in validated] == ["good", "lecture#0", "lecture#1", "lecture#3"]
    assert [row.utterance.text for row in validated[1:]] == ["from 0 from 13", "from 25", "from 66"]
    assert [(each.id, each.reason) for each in quarantined] == [("lecture#2", "too_long"), ("blind", "too_long")]
    assert "no segment times" in quarantined[1].detail


def test_an_unknown_language_stops_everything() -> None:
    with pytest.raises(UserError, match="English only, not 'it'"):
        validate([GOOD, replace(GOOD, id="it", language="it")])


def test_a_row_in_a_language_that_no_whisper_has_a_token_for_costs_only_itself() -> None:
    validated, quarantined = validate([GOOD, replace(GOOD, id="dv", language="dv")])
    assert [row.utterance.id for row in validated] == ["good"]
    assert [(row.id, row.reason) for row in quarantined] == [("dv", "unknown_language")]


def test_rows_are_admitted_as_they_come() -> None:
    read = 0

    def endless() -> Iterable[Utterance]:
        nonlocal read
        while True:
            read += 1
            yield replace(GOOD, id=str(read))

    first = next(iter(RULES.validate(endless(), [])))
    assert first.utterance.id == "1"
    assert read < 2000


def test_a_few_faults_are_borne_but_not_more_than_allowed() -> None:
    bad = [Quarantined(str(n), "corrupt", "in the middle") for n in range(6)]
    require_usable(bad[:5], 10, 0.05)  # the first hundred may be unlucky
    require_usable(bad, 120, 0.05)
    with pytest.raises(UserError) as caught:
        require_usable(bad, 110, 0.05)
    assert caught.value.message == "6 of 110 utterances could not be used, the last: corrupt: 5: in the middle"
    assert "data.max_quarantined_share" in caught.value.hint


@pytest.mark.medium
def test_a_length_reckoned_from_a_bit_rate_refuses_nothing(tmp_path: Path) -> None:
    clip = encoded(tmp_path / "clip.mp3", tone(3.0, 48_000), *CODECS["mp3"])
    clip.write_bytes(clip.read_bytes() + bytes(1_000_000))  # FFmpeg takes the zeros for two minutes of sound
    quarantined: list[Quarantined] = []
    (validated,) = RULES.validate([Utterance("a", str(clip), "ciao", language="en")], quarantined)
    assert validated.utterance.duration_s == pytest.approx(3.0, abs=0.1) and not quarantined


@pytest.mark.slow
def test_many_lengths_in_one_go_are_those_of_one_by_one(tmp_path: Path, trips: list[int]) -> None:
    guessed = encoded(tmp_path / "guessed.mp3", tone(3.0, 48_000), *CODECS["mp3"])
    guessed.write_bytes(guessed.read_bytes() + bytes(1_000_000))
    whole = encode_flac(np.zeros(3 * SAMPLE_RATE, np.float32))
    sources: list[str | bytes] = [whole, str(guessed), b"no audio", whole, "/no/such.wav", str(guessed)] * 10
    rows: list[Utterance | Quarantined] = [
        Utterance(str(number), source, "words", start_s=number % 3) for number, source in enumerate(sources)
    ]
    rows[7:7] = [Quarantined("known", "no_speech"), replace(GOOD, id="said"), replace(GOOD, id="cut", end_s=1.5)]
    validated, quarantined = validate(rows)
    assert len(trips) == 2 and trips[0] == len(sources)  # the headers, and the sound of those that only guess
    alone = [validate([row]) for row in rows]
    assert [each.utterance for each in validated] == [each.utterance for some, _ in alone for each in some]
    assert quarantined == [each for _, some in alone for each in some]
    assert {each.reason for each in quarantined} == {"no_speech", "not_audio", "missing_file"}
