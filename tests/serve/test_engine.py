from __future__ import annotations

import pickle

import pytest

from asr.errors import UserError
from asr.inference import engine as engines
from serve.config import ServeConfig
from serve.engine import Engine, load_engine


def test_an_english_checkpoint_says_what_it_knows(engine: Engine) -> None:
    info = engine.info
    assert (info.name, info.language, info.languages, info.context) == ("tiny", "en", frozenset({"en"}), "full")


def test_what_a_request_must_know_travels_without_the_weights(engine: Engine) -> None:
    assert len(pickle.dumps(engine.info)) < 200_000


@pytest.mark.parametrize("gpu", [0.0, 0.5])
def test_the_configuration_decides(gpu: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(engines, "load_engine", lambda *words: asked.append(words))
    load_engine(ServeConfig(model="builtin:base", name="ours", engine="ctranslate2", gpu=gpu, cpus_each=3))
    assert asked == [("builtin:base", "ours", "ctranslate2", "cuda" if gpu else "cpu", 3)]


def test_a_model_that_does_not_exist_is_a_persons_mistake() -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        load_engine(ServeConfig(model="builtin:tinny.en"))
