from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asr.audio.decode import decode, encode_flac
from asr.audio.probe import Header
from asr.utterance import Quarantined, Utterance
from train.data.filters import Filters
from train.data.survey import Repeats, Seen, look


def test_the_same_sound_in_another_file_has_the_same_digest(english_clips: list[Utterance]) -> None:
    clip = english_clips[0]
    [first] = look([clip], Filters())
    assert first.header == Header("flac", 16_000, 1) and first.fault is None
    [again] = look([replace(clip, id="again", audio=encode_flac(decode(clip.audio)))], Filters())
    assert again.audio == first.audio
    [louder] = look([replace(clip, audio=encode_flac(decode(clip.audio) * 0.9))], Filters())
    assert louder.audio != first.audio


def test_two_stretches_of_one_recording_are_two_sounds(english_clips: list[Utterance]) -> None:
    clip = english_clips[0]
    halves = [replace(clip, start_s=0.0, end_s=1.0), replace(clip, start_s=1.0, end_s=2.0)]
    first, second = look(halves, Filters())
    assert first.length_s == second.length_s == 1.0
    assert first.audio != second.audio


def test_a_clip_that_is_unfit_is_measured_all_the_same() -> None:
    blip = Utterance("blip", encode_flac(np.ones(1600) * 0.1), "ciao")
    known = Quarantined("a", "no_speech")
    seen, other = look([blip, known], Filters())
    assert seen.length_s == 0.1
    assert seen.fault is not None and (seen.fault.id, seen.fault.reason) == ("blip", "too_short")
    assert other.fault is known


@pytest.mark.medium
def test_many_in_one_go_are_seen_as_one_by_one(
    english_clips: list[Utterance], crashing: bytes, trips: list[int]
) -> None:
    clip = english_clips[0]
    long = encode_flac(np.tile(decode(clip.audio), 40))
    rows: list[Utterance | Quarantined] = [
        clip,
        replace(clip, id="wordless", text=" "),
        replace(clip, id="none", audio=b"no audio"),
        replace(clip, id="wordless and none", audio="/no/such.wav", text="..."),
        Quarantined("known", "no_speech"),
        replace(clip, id="long", audio=long),
        replace(clip, id="mute", audio=encode_flac(np.zeros(16_000, np.float32))),
        replace(clip, id="cut", start_s=0.5, end_s=99.0),
        *english_clips[1:6],
    ]
    together = look(rows, Filters())
    assert trips == [2 * (len(rows) - 1), 1]  # and the long one
    assert together == [seen for row in rows for seen in look([row], Filters())]
    reasons = [seen.fault.reason if seen.fault else "" for seen in together]
    assert reasons[:4] == ["", "no_transcript", "not_audio", "no_transcript"]
    assert reasons[4:8] == ["no_speech", "too_long", "silent", "truncated"]
    assert (together[5].length_s or 0) > 60
    [before, died, after] = look([clip, replace(clip, id="crash", audio=crashing), clip], Filters())
    assert before == after == together[0]
    assert died.fault is not None and died.fault.reason == "decoder_died"


def test_examples_are_few_and_all_are_counted() -> None:
    seen = Seen(num_examples=2)
    for number in range(5):
        seen.add(b"same", f"{number}")
    seen.add(b"other", "6")
    assert seen.repeats() == Repeats(4, (("0", "1"), ("0", "2")))
