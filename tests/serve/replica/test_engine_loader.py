"""Memory is given back for real: the process's own, and what the library counts."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from asr.errors import UserError
from asr.inference import engine as engines
from asr.inference.engine import Engine, decode_together
from asr.models.artifact import complete
from asr.transcript import DecodingRequest
from serve.config import ServeConfig
from serve.models.version import Version
from serve.replica.engine_loader import PooledEngineLoader, load_engine
from tests.asr.models.test_artifact import card, write_adapter
from tests.serve.fakes import FakeEngine
from tests.serve.made import made


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_what_is_unloaded_gives_its_memory_back(tiny_en_name: str, engine: Any) -> None:
    loader = PooledEngineLoader(ServeConfig(model=tiny_en_name, engine=engine, cpus_each=1))
    loader.unload(loader.load(Version(tiny_en_name))[1])  # libraries and caches stay
    before = resident()
    found, loaded = loader.load(Version(tiny_en_name))
    assert found.fingerprint and loader.nbytes == loaded.nbytes > 30_000_000
    loaded.decode([DecodingRequest(loaded.info.features(np.zeros(16_000, np.float32)), "en")])
    held = resident()
    assert held - before > 0.5 * loaded.nbytes
    size = loaded.nbytes
    loader.unload(loaded)
    del loaded
    assert loader.nbytes == 0
    assert resident() < held - 0.5 * size


def test_files_that_are_others_by_now_are_not_loaded(tiny_en_name: str) -> None:
    loader = PooledEngineLoader(ServeConfig(model=tiny_en_name))
    with pytest.raises(UserError, match="is not what it was"):
        loader.load(Version(tiny_en_name, "0123456789ab"))
    assert loader.nbytes == 0


def test_adapters_share_their_base_where_that_is_asked_for(tmp_path: Path, tiny_en_name: str) -> None:
    folder = tmp_path / "artifact"
    write_adapter(folder, tiny_en_name)
    complete(folder, card(tiny_en_name))
    loader = PooledEngineLoader(ServeConfig(model=tiny_en_name, share_bases=True, cpus_each=1))
    base, adapter = (loader.load(Version(name))[1] for name in (tiny_en_name, str(folder)))
    assert base.group == adapter.group and adapter.nbytes < 0.1 * base.nbytes
    assert loader.nbytes < 1.1 * base.nbytes
    clips = [DecodingRequest(base.info.features(np.zeros(16_000, np.float32)), "en")] * 2
    assert len(decode_together([base, adapter], clips)) == 2
    loader.unload(adapter)
    assert base.nbytes <= loader.nbytes < 1.01 * base.nbytes
    loader.unload(base)
    assert loader.nbytes == 0


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
