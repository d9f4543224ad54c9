from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import WhisperFeatureExtractor

from asr.audio.features import LogMel
from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.sound import EACH, SoundChoice
from serve.batch.job import BatchJob
from serve.batch.output_folder import Format
from serve.config import ServeConfig
from tests.serve.fakes import LANGUAGES

INFO = ModelInfo("listener", LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters))


def job(*formats: Format, model: str = "base", **more: object) -> BatchJob:
    return BatchJob(["a.wav"], "out", formats or (Format.TXT,), ServeConfig(model=model), **more)  # type: ignore[arg-type]


def test_times_are_asked_for_where_a_format_shows_them() -> None:
    assert not job().options(INFO).timestamps
    assert job(Format.TXT, Format.SRT).options(INFO).timestamps
    assert job(sound=SoundChoice(channel=EACH)).options(INFO).timestamps  # they order what the channels say
    asked = job(Format.JSON, language="Italian", task="translate", prompt=" Digium ", words=True).options(INFO)
    assert (asked.language, asked.task, asked.prompt, asked.words) == ("it", "translate", "Digium", True)


def test_what_no_model_can_do_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="--format json"):
        job(Format.SRT, words=True)
    with pytest.raises(UserError, match="--prompt"):
        job(prompt="a <|notimestamps|> token")
    with pytest.raises(UserError, match="--keywords cannot be used: one has 51 characters"):
        job(keywords=["a" * 51])
    with pytest.raises(UserError, match="Xqzzt"):
        job(language="Xqzzt").settings()


def test_what_the_model_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="French"):
        job(language="fr").options(INFO)


def test_a_name_for_a_language_is_as_good_as_another() -> None:
    assert job(language="Italian").settings() == job(language="it").settings()


def test_other_keywords_are_another_transcript() -> None:
    assert job(keywords=[" Digium", ""]).settings() == job(keywords=["Digium"]).settings() != job().settings()
    assert job(keywords=["a, b"]).settings() != job(keywords=["a", "b"]).settings()
    assert job(keywords=["Digium"]).options(INFO).keywords == ("Digium",)


def test_another_channel_is_another_transcript() -> None:
    settings = [job(sound=one).settings() for one in (SoundChoice(), SoundChoice(1), SoundChoice(channel="left"))]
    assert [(one.track, one.channel) for one in settings] == [(None, "auto"), (1, "auto"), (None, "left")]


def test_an_artifact_trained_anew_is_another_model(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"files": {"model.safetensors": "1"}, "evaluations": []}))
    before = job(model=str(tmp_path)).settings()
    card.write_text(json.dumps({"files": {"model.safetensors": "1"}, "evaluations": [1]}))
    assert job(model=str(tmp_path)).settings() == before
    card.write_text(json.dumps({"files": {"model.safetensors": "2"}}))
    assert job(model=str(tmp_path)).settings() != before
