"""Memory is given back for real: the process's own, and what the pool counts."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from transformers import GenerationConfig

from asr.errors import UserError
from asr.inference.engine import AdapterEngine, Engine, FastEngine, TorchEngine, decode_together
from asr.models.artifact import complete, load_model
from asr.models.family import CTC
from asr.models.whisper.multi_lora import num_bytes
from asr.transcript import DecodingRequest
from serve.config import ServeConfig
from serve.models.version import Version
from serve.replica.engine_pool import EnginePool
from tests.asr.models.ctc import tiny
from tests.asr.models.test_artifact import card, write_adapter
from tests.asr.models.test_export import write_artifact


@pytest.fixture
def base(tmp_path: Path, random_checkpoint: Path) -> str:
    """A checkpoint of random weights that stops after some tokens."""
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "base"))
    GenerationConfig.from_pretrained(folder, max_length=10).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folders(tmp_path: Path, base: str) -> list[Path]:
    """Two adapters for it, of which only the first is trained for the short context."""
    return [write_artifact(tmp_path / f"adapter-{seed}", base, seed, short_context=seed == 0) for seed in range(2)]


@pytest.fixture
def clips() -> list[DecodingRequest]:
    generator = np.random.default_rng(4)
    return [DecodingRequest(generator.standard_normal((80, 150)).astype(np.float16), temperature=0.5) for _ in range(4)]


def pool_of(engine: str = "torch", share_bases: bool = True, cpus_each: float = 1.0) -> EnginePool:
    config = {"engine": engine, "share_bases": share_bases, "cpus_each": cpus_each}
    return EnginePool(ServeConfig.model_validate({"model": "of no consequence"} | config))


def load(pool: EnginePool, artifact: Path | str) -> Engine:
    return pool.load(Version(str(artifact)))[1]


@pytest.fixture
def pool() -> EnginePool:
    """One that shares bases."""
    return pool_of()


def test_a_base_is_held_once_for_its_adapters(pool: EnginePool, folders: list[Path], base: str) -> None:
    adapters = [load(pool, folder) for folder in folders]
    itself = load(pool, base)
    alone = num_bytes(load_model(base).network)
    assert itself.nbytes == alone
    assert pool.nbytes == alone + sum(engine.nbytes for engine in adapters)
    assert {engine.group for engine in adapters} == {itself.group}
    assert [(engine.info.name, engine.info.context) for engine in (*adapters, itself)] == [
        ("adapter-0", "short"),
        ("adapter-1", "full"),
        ("base", "full"),
    ]


def test_clips_of_different_contexts_and_adapters_are_decoded_together(
    pool: EnginePool, folders: list[Path], base: str, clips: list[DecodingRequest]
) -> None:
    names = [*map(str, folders), base]
    engines = [load(pool, name) for name in names]
    asked = [engines[i % len(engines)] for i in range(len(clips))]
    together = decode_together(asked, clips)
    assert together == [engine.decode([clip])[0] for engine, clip in zip(asked, clips, strict=True)]
    merged = load(pool_of(share_bases=False), names[0])
    assert merged.decode(clips[:1]) == together[:1]


def test_without_sharing_each_is_on_its_own(folders: list[Path]) -> None:
    pool = pool_of(share_bases=False)
    engines = [load(pool, folder) for folder in folders]
    assert all(isinstance(engine, TorchEngine) for engine in engines)
    assert len({engine.group for engine in engines}) == 2
    assert pool.nbytes == sum(engine.nbytes for engine in engines)


def test_what_cannot_be_mixed_is_merged(pool: EnginePool, folders: list[Path], base: str) -> None:
    folder = write_artifact(folders[0].parent / "dora", base, use_dora=True)
    assert isinstance(load(pool, folder), TorchEngine)
    assert isinstance(load(pool_of("ctranslate2", share_bases=False), folders[0]), FastEngine)


def test_memory_is_free_when_the_last_user_has_gone(pool: EnginePool, folders: list[Path]) -> None:
    gc.collect()  # of earlier tests
    engines = [load(pool, folder) for folder in folders]
    first = engines[0]
    assert isinstance(first, AdapterEngine)
    with first.base.busy() as model:
        of_base = weakref.ref(model.network.get_base_model().model.decoder.embed_tokens.weight)
        of_adapters = {
            name: weakref.ref(weight)
            for name, weight in model.network.named_parameters()
            if "lora_A" in name and "encoder.layers.0.fc1" in name
        }
    del model
    assert len(of_adapters) == 2
    pool.unload(first)
    assert {first.adapter in name for name, weight in of_adapters.items() if weight() is None} == {True}
    assert pool.nbytes > 0 and of_base() is not None
    pool.unload(engines[1])
    assert pool.nbytes == 0
    assert of_base() is None, "although somebody still holds the engines"
    with pytest.raises(ValueError, match="not held here"):
        pool.unload(first)


def test_so_it_is_of_what_was_on_its_own(base: str) -> None:
    pool = pool_of(share_bases=False)
    engine = load(pool, base)
    assert isinstance(engine, TorchEngine)
    network = weakref.ref(engine.model.network)
    pool.unload(engine)
    del engine
    assert network() is None and pool.nbytes == 0


def test_a_base_goes_where_its_first_adapter_cannot_be_loaded(pool: EnginePool, folders: list[Path]) -> None:
    path = folders[0] / "card.json"
    card = json.loads(path.read_text())
    (folders[0] / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="digest"):
        load(pool, folders[0])
    from asr.io.digest import sha256

    card["files"]["adapter_model.safetensors"] = sha256(folders[0] / "adapter_model.safetensors")
    path.write_text(json.dumps(card))
    with pytest.raises(UserError, match="adapter-0"):
        load(pool, folders[0])
    assert pool.nbytes == 0


def test_one_loads_while_another_decodes(pool: EnginePool, folders: list[Path], clips: list[DecodingRequest]) -> None:
    engine = load(pool, folders[0])
    expected = engine.decode(clips)
    loaded, heard = Event(), []

    def load_and_unload() -> None:
        pool.unload(load(pool, folders[1]))
        loaded.set()

    thread = Thread(target=load_and_unload)
    thread.start()
    while not loaded.is_set() or not heard:
        heard.append(engine.decode(clips))
    thread.join()
    assert all(each == expected for each in heard)


def test_threads_are_set(base: str) -> None:
    before = torch.get_num_threads()
    try:
        load(pool_of(cpus_each=2.0), base)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_what_is_unloaded_gives_its_memory_back(tiny_en_name: str, engine: Any) -> None:
    pool = EnginePool(ServeConfig(model=tiny_en_name, engine=engine, cpus_each=1))
    pool.unload(pool.load(Version(tiny_en_name))[1])  # libraries and caches stay
    before = resident()
    found, loaded = pool.load(Version(tiny_en_name))
    assert found.fingerprint and pool.nbytes == loaded.nbytes > 30_000_000
    loaded.decode([DecodingRequest(loaded.info.features(np.zeros(16_000, np.float32)), "en")])
    held = resident()
    assert held - before > 0.5 * loaded.nbytes
    size = loaded.nbytes
    pool.unload(loaded)
    del loaded
    assert pool.nbytes == 0
    assert resident() < held - 0.5 * size


def test_files_that_are_others_by_now_are_not_loaded(tiny_en_name: str) -> None:
    pool = EnginePool(ServeConfig(model=tiny_en_name))
    with pytest.raises(UserError, match="is not what it was"):
        pool.load(Version(tiny_en_name, "0123456789ab"))
    assert pool.nbytes == 0


def test_adapters_share_their_base_where_that_is_asked_for(tmp_path: Path, tiny_en_name: str) -> None:
    folder = tmp_path / "artifact"
    write_adapter(folder, tiny_en_name)
    complete(folder, card(tiny_en_name))
    pool = EnginePool(ServeConfig(model=tiny_en_name, share_bases=True, cpus_each=1))
    base, adapter = (pool.load(Version(name))[1] for name in (tiny_en_name, str(folder)))
    assert base.group == adapter.group and adapter.nbytes < 0.1 * base.nbytes
    assert pool.nbytes < 1.1 * base.nbytes
    clips = [DecodingRequest(base.info.features(np.zeros(16_000, np.float32)), "en")] * 2
    assert len(decode_together([base, adapter], clips)) == 2
    pool.unload(adapter)
    assert base.nbytes <= pool.nbytes < 1.01 * base.nbytes
    pool.unload(base)
    assert pool.nbytes == 0


def test_a_ctc_model_is_held_on_its_own_where_others_share_their_bases(pool: EnginePool, tmp_path: Path) -> None:
    """Loading one as a base ended in an error."""
    folder = tiny.write(tmp_path / "ctc", "whisper-tiny")
    engine = load(pool, folder)
    assert isinstance(engine, TorchEngine) and engine.info.family == CTC
    with pytest.raises(UserError, match="is of the family ctc, which engine=ctranslate2 does not run"):
        load(pool_of("ctranslate2", share_bases=False), folder)
