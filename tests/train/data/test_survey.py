from __future__ import annotations

from dataclasses import replace

import numpy as np

from asr.audio import decode, encode_flac
from asr.header import Header
from asr.utterance import Quarantined, Utterance
from train.data.filters import Filters
from train.data.survey import Repeats, Seen, look


def test_the_same_sound_in_another_file_has_the_same_digest(english_clips: list[Utterance]) -> None:
    clip = english_clips[0]
    first = look(clip, Filters())
    assert first.header == Header("flac", 16_000, 1) and first.fault is None
    again = look(replace(clip, id="again", audio=encode_flac(decode(clip.audio))), Filters())
    assert again.audio == first.audio
    louder = look(replace(clip, audio=encode_flac(decode(clip.audio) * 0.9)), Filters())
    assert louder.audio != first.audio


def test_two_stretches_of_one_recording_are_two_sounds(english_clips: list[Utterance]) -> None:
    clip = english_clips[0]
    halves = [replace(clip, start_s=0.0, end_s=1.0), replace(clip, start_s=1.0, end_s=2.0)]
    first, second = (look(half, Filters()) for half in halves)
    assert first.length_s == second.length_s == 1.0
    assert first.audio != second.audio


def test_a_clip_that_is_unfit_is_measured_all_the_same() -> None:
    blip = Utterance("blip", encode_flac(np.ones(1600) * 0.1), "ciao")
    seen = look(blip, Filters())
    assert seen.length_s == 0.1
    assert seen.fault is not None and (seen.fault.id, seen.fault.reason) == ("blip", "too_short")
    known = Quarantined("a", "no_speech")
    assert look(known, Filters()).fault is known


def test_examples_are_few_and_all_are_counted() -> None:
    seen = Seen(num_examples=2)
    for number in range(5):
        seen.add(b"same", f"{number}")
    seen.add(b"other", "6")
    assert seen.repeats() == Repeats(4, (("0", "1"), ("0", "2")))
