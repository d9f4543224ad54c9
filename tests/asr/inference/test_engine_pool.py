from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from asr.errors import UserError
from asr.inference.engine import AdapterEngine, CTranslateEngine, TorchEngine, decode_together
from asr.inference.engine_pool import EnginePool
from asr.models.artifact import load_model
from asr.models.whisper.multi_lora import num_bytes
from asr.transcript import DecodingRequest
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


@pytest.fixture
def pool() -> EnginePool:
    return EnginePool()


def test_a_base_is_held_once_for_its_adapters(pool: EnginePool, folders: list[Path], base: str) -> None:
    adapters = [pool.load(str(folder), folder.name, "torch", share_bases=True) for folder in folders]
    itself = pool.load(base, "base", "torch", share_bases=True)
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
    engines = [pool.load(name, name, "torch", share_bases=True) for name in names]
    asked = [engines[i % len(engines)] for i in range(len(clips))]
    together = decode_together(asked, clips)
    assert together == [engine.decode([clip])[0] for engine, clip in zip(asked, clips, strict=True)]
    merged = EnginePool().load(names[0], "merged", "torch")
    assert merged.decode(clips[:1]) == together[:1]


def test_without_sharing_each_is_on_its_own(pool: EnginePool, folders: list[Path]) -> None:
    engines = [pool.load(str(folder), "x", "torch") for folder in folders]
    assert all(isinstance(engine, TorchEngine) for engine in engines)
    assert len({engine.group for engine in engines}) == 2
    assert pool.nbytes == sum(engine.nbytes for engine in engines)


def test_what_cannot_be_mixed_is_merged(pool: EnginePool, folders: list[Path], base: str) -> None:
    folder = write_artifact(folders[0].parent / "dora", base, use_dora=True)
    assert isinstance(pool.load(str(folder), "dora", "torch", share_bases=True), TorchEngine)
    assert isinstance(pool.load(str(folders[0]), "fast", "ctranslate2", share_bases=True), CTranslateEngine)


def test_memory_is_free_when_the_last_user_has_gone(pool: EnginePool, folders: list[Path]) -> None:
    gc.collect()  # of earlier tests
    engines = [pool.load(str(folder), "x", "torch", share_bases=True) for folder in folders]
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


def test_so_it_is_of_what_was_on_its_own(pool: EnginePool, base: str) -> None:
    engine = pool.load(base, "x", "torch")
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
        pool.load(str(folders[0]), "x", "torch", share_bases=True)
    from asr.io.digest import sha256

    card["files"]["adapter_model.safetensors"] = sha256(folders[0] / "adapter_model.safetensors")
    path.write_text(json.dumps(card))
    with pytest.raises(UserError, match="adapter-0"):
        pool.load(str(folders[0]), "x", "torch", share_bases=True)
    assert pool.nbytes == 0


def test_one_loads_while_another_decodes(pool: EnginePool, folders: list[Path], clips: list[DecodingRequest]) -> None:
    engine = pool.load(str(folders[0]), "x", "torch", share_bases=True)
    expected = engine.decode(clips)
    loaded, heard = Event(), []

    def load_and_unload() -> None:
        pool.unload(pool.load(str(folders[1]), "y", "torch", share_bases=True))
        loaded.set()

    thread = Thread(target=load_and_unload)
    thread.start()
    while not loaded.is_set() or not heard:
        heard.append(engine.decode(clips))
    thread.join()
    assert all(each == expected for each in heard)


def test_threads_are_set(pool: EnginePool, base: str) -> None:
    before = torch.get_num_threads()
    try:
        pool.load(base, "x", "torch", threads=2, share_bases=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
