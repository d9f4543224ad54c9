"""What is answered has the shape that the document shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asr.inference.formats import as_json, as_verbose_json
from asr.inference.recording import Recording, Window, join
from asr.sound import SoundReport
from asr.transcript import Segment, Transcript, Word
from serve.errors import ApiError, body
from serve.ingress.openai import schemas


@pytest.fixture
def recording() -> Recording:
    words = (Word(0.5, 0.9, " Ciao,", 0.9), Word(0.9, 1.8, " mondo.", 0.8))
    heard = Transcript("Ciao, mondo.", (5, 6), "it", (Segment(0.5, 1.9, " Ciao, mondo.", (5, 6)),), words)
    return join([Window(0, 32_000)], [heard], 2.0)


def test_a_transcription(recording: Recording) -> None:
    schemas.Transcription.model_validate(as_json(recording))


@pytest.mark.parametrize("granularities", [("segment",), ("word",), ("segment", "word"), ()])
def test_a_verbose_one(recording: Recording, granularities: tuple[str, ...]) -> None:
    found = SoundReport(32_000, warnings=("a packet was damaged",))
    for one in (recording, replace(recording, sound=found)):
        told = schemas.VerboseTranscription.model_validate(as_verbose_json(one, "transcribe", granularities))
        assert (told.segments is None, told.words is None) == tuple(
            name not in granularities for name in ("segment", "word")
        )


def test_an_error() -> None:
    told = schemas.Error.model_validate(body(ApiError(429, "too much", "queue_full")))
    assert (told.error.type, told.error.param) == ("rate_limit_error", None)
    assert schemas.Error.model_validate(body(ApiError(400, "no", "invalid_value", "model"))).error.param == "model"


def test_every_field_that_is_not_plain_says_what_it_is() -> None:
    assert all(one.__doc__ for one in vars(schemas).values() if isinstance(one, type))
