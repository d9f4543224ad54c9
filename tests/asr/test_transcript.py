from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from asr.transcript import DecodingRequest, Segment, Transcript, Word

WORD = Word(0.0, 0.4, " Ciao", 0.9)
TRANSCRIPT = Transcript("Ciao", (1, 2), "it", (Segment(0.0, 0.4, "Ciao", (1, 2)),), (WORD,), -0.2, 0.01)


def test_transcripts_that_say_the_same_are_equal() -> None:
    other = replace(TRANSCRIPT, avg_logprob=-0.2000001, no_speech_prob=0.0100001)
    assert replace(other, words=(replace(WORD, probability=0.9000001),)) == TRANSCRIPT
    assert replace(TRANSCRIPT, words=(replace(WORD, end_s=0.42),)) != TRANSCRIPT
    assert replace(TRANSCRIPT, temperature=0.2) != TRANSCRIPT


def test_both_cross_to_other_processes_and_do_not_change() -> None:
    clip = DecodingRequest(np.zeros((80, 100), dtype=np.float16), "it", prompt="Whisperfleet")
    assert pickle.loads(pickle.dumps(TRANSCRIPT)) == TRANSCRIPT
    assert pickle.loads(pickle.dumps(clip)).prompt == clip.prompt
    with pytest.raises(FrozenInstanceError):
        clip.prompt = "other"  # type: ignore[misc]
