from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.inference import engine as engines
from asr.inference.engine import Engine
from serve.config import ServeConfig
from serve.replica.engine_loader import load_engine
from tests.serve.fakes import FakeEngine
from tests.serve.made import made


def test_a_function_makes_engines_for_one_model_each(tmp_path: Path) -> None:
    asked: list[ServeConfig] = []

    def make_engine(config: ServeConfig) -> FakeEngine:
        asked.append(config)
        return FakeEngine(config, tmp_path)

    config = ServeConfig(model="first", name="one", models={"two": "second"}, cpus_each=3)
    loader = made(make_engine)(config)
    versions, engines = zip(*[loader.load(loader.inspect(name).version) for name in ("first", "second")], strict=True)
    assert [one.public_name for one in asked] == ["first", "second"] and asked[1].artifacts == {"second": "second"}
    assert len(set(versions)) == 2 and asked[0].threads == 3
    assert loader.nbytes == 2_000_000
    loader.unload(engines[0])
    assert loader.nbytes == 1_000_000


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
