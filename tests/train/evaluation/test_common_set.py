from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.errors import DataError, UserError
from asr.models.processor import Processor
from asr.utterance import Utterance
from train.evaluation.candidate import Candidate
from train.evaluation.common_set import common_set


@dataclass
class Taking:
    """What of a processor says which clips a model takes."""

    window_s: float = 30.0
    languages: tuple[str, ...] = ("en", "it")

    def require(self, language: str | None, task: str) -> None:
        if language not in self.languages:
            raise UserError(f"not '{language}'")

    def usable(self, text: str) -> str:
        if "ß" in text:
            raise DataError("unknown_letters", "no 'ß'")
        return text


def model(name: str, language: str | None = None, window_s: float = 30.0, languages: str = "en it") -> Candidate:
    taking = cast(Processor, Taking(window_s, tuple(languages.split())))
    return Candidate(name, None, "identity", "sha256:1", taking, language)


def test_what_one_model_does_not_take_is_left_out_for_all(flac_clips: list[Utterance]) -> None:
    longest = max(flac_clips[:4], key=lambda clip: clip.duration_s or 0)
    window_s = (longest.duration_s or 0) - 0.05
    mute = replace(flac_clips[0], id="mute", audio=encode_flac(np.zeros(16_000, dtype=np.float32)))
    italian = replace(flac_clips[0], id="italian", language="it")
    models = [model("wide"), model("narrow", window_s=window_s), model("english", languages="en")]
    reported: list[tuple[int, int]] = []
    rows = [*flac_clips[:4], mute, italian]
    found = common_set(rows, models, None, lambda done, total: reported.append((done, total)))
    reasons = {row.id: (row.reason, row.detail) for row in found.quarantined}
    assert reasons["italian"] == ("unsupported_language", "english: not 'it'")
    assert reasons["mute"][0] == "silent"
    assert reasons[longest.id][0] == "too_long" and reasons[longest.id][1].endswith("; narrow takes no longer one")
    assert len(found.clips) == 3 and found.window_s == window_s
    lengths = [clip.duration_s for clip in found.clips]
    assert lengths == sorted(lengths, reverse=True)
    assert reported[-1] == (5, 5)


def test_the_fingerprint_is_of_words_languages_and_samples(flac_clips: list[Utterance]) -> None:
    def fingerprint(*rows: Utterance, language: str | None = None) -> str:
        return common_set(rows, [model("one")], language).fingerprint

    clip, other = (replace(one, language=None) for one in flac_clips[:2])
    assert fingerprint(clip) == fingerprint(replace(clip, duration_s=None))
    different = [replace(clip, text="another"), replace(clip, audio=other.audio), replace(clip, id="x")]
    assert len({fingerprint(one) for one in [clip, *different]} | {fingerprint(clip, language="it")}) == 5


def test_nothing_left_is_a_mistake_that_says_why(flac_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match=r"none of 1 utterances can be compared, the first: .*: one: not 'ru'"):
        common_set([replace(flac_clips[0], language=None)], [model("one")], "ru")
    with pytest.raises(UserError, match="unsupported_language: one: not 'ru'"):
        common_set([replace(flac_clips[0], language=None)], [model("one", language="ru")], None)


def test_letters_that_one_of_the_models_lacks_are_told_before_any_sound_is_decoded() -> None:
    with pytest.raises(UserError, match=r"^one: 1 of 1 transcripts have letters that the vocabulary lacks"):
        common_set([Utterance("a", "nowhere.wav", "Größe", "en")], [model("one")], None)
