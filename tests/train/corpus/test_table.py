from __future__ import annotations

from dataclasses import replace

from asr.sound import SoundChoice
from asr.utterance import Utterance
from train.corpus.table import ValidatedUtterance, collect

ONE = Utterance("é 1", "/clips/\udcff.wav", "però\u2028sì", 1.5, "it", "anna", meta={"dropped": 1})
STRETCH = Utterance("cut", "talk.wav", "two", 2.0, None, None, 3.0, 5.0, sound=SoundChoice(1, "left"))
INLINE = Utterance("inline", b"\x00RIFF\xff", "three", 3.0, "en")


def test_utterances_come_back_as_they_went_in_but_for_what_training_does_not_need() -> None:
    utterances, sizes = collect(
        [[ValidatedUtterance(ONE, 4), ValidatedUtterance(STRETCH, 5)], [], [ValidatedUtterance(INLINE, 6)]]
    )
    assert (len(utterances), sizes) == (3, [2, 0, 1])
    assert utterances.take([2, 0, 1, 0]) == [
        INLINE,
        replace(ONE, speaker=None, meta={}),
        STRETCH,
        utterances.take([0])[0],
    ]
    assert utterances.ids() == ["é 1", "cut", "inline"]
    assert utterances.texts(1, 2) == ["two", "three"]
    columns = utterances.columns()
    assert columns.audio_s.tolist() == [1.5, 2.0, 3.0]
    assert columns.tokens.tolist() == [4, 5, 6]


def test_neighbours_share_source_language_speaker_and_recording() -> None:
    def groups(*rows: ValidatedUtterance) -> list[int]:
        ids = collect([rows])[0].columns().group
        return (ids - ids[0]).tolist()

    assert groups(ValidatedUtterance(ONE, 1), ValidatedUtterance(replace(ONE, id="2", audio="other.wav"), 1)) == [0, 0]
    assert groups(ValidatedUtterance(ONE, 1), ValidatedUtterance(replace(ONE, speaker="bea"), 1)) == [0, 1]
    assert groups(
        ValidatedUtterance(ONE, 1), ValidatedUtterance(replace(ONE, language="en"), 1), ValidatedUtterance(ONE, 1)
    ) == [0, 1, 2]
    assert groups(
        ValidatedUtterance(ONE, 1), ValidatedUtterance(ONE, 1, follows=False), ValidatedUtterance(ONE, 1)
    ) == [0, 1, 1]
    assert groups(ValidatedUtterance(STRETCH, 1), ValidatedUtterance(replace(STRETCH, start_s=5.0, end_s=6.0), 1)) == [
        0,
        0,
    ]
    assert groups(ValidatedUtterance(STRETCH, 1), ValidatedUtterance(replace(STRETCH, audio="another.wav"), 1)) == [
        0,
        1,
    ]
    assert groups(ValidatedUtterance(STRETCH, 1), ValidatedUtterance(replace(STRETCH, sound=SoundChoice()), 1)) == [
        0,
        1,
    ]
    two_sources, _ = collect([[ValidatedUtterance(ONE, 1)], [ValidatedUtterance(ONE, 1)]])
    assert len(set(two_sources.columns().group.tolist())) == 2


def test_nothing_is_a_corpus_too() -> None:
    utterances, sizes = collect([[]])
    assert (len(utterances), sizes, utterances.take([])) == (0, [0], [])
