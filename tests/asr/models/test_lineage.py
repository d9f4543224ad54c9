"""Artifacts that were trained on artifacts: merged in order, and never put on weights that they are not for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from asr.errors import UserError
from asr.inference.engine import AdapterEngine
from asr.io import storage, transfer
from asr.models.artifact import CARD, PARENT, README, complete, find_base, load_model, merge_adapter, read_card
from asr.models.checkpoint import find_checkpoint
from asr.models.export import export
from asr.models.lineage import keep_parent, lineage, root
from asr.models.whisper.loading import load_checkpoint
from asr.models.whisper.processor import load_processor
from asr.models.whisper.torch_backend import decode
from asr.transcript import DecodingRequest
from serve.config import ServeConfig
from serve.models.version import Version
from serve.replica.engine_pool import EnginePool
from tests.asr.models.test_export import write_artifact
from tests.asr.tiny_whisper import logits

pytestmark = pytest.mark.usefixtures("own_cache")


def write_child(folder: Path, parent: Path | str, seed: int) -> Path:
    """What training leaves of a run whose base is an artifact."""
    write_artifact(folder, str(parent), seed)
    base = find_checkpoint(str(parent))
    keep_parent(base, folder)
    complete(folder, read_card(folder).model_copy(update={"lineage": lineage(base), "files": {}}))
    return folder


@pytest.fixture
def parent(tmp_path: Path, random_checkpoint: Path) -> Path:
    return write_artifact(tmp_path / "parent", str(random_checkpoint), seed=1)


def test_an_artifact_is_a_base_with_its_adapter_merged_and_all_that_decoding_needs(parent: Path) -> None:
    """It was refused: `no checkpoint in this folder (... an artifact: card.json)`, though card.json is there."""
    base = find_checkpoint(str(parent))
    assert torch.equal(logits(load_checkpoint(base).network), logits(load_model(str(parent)).network))
    assert load_processor(base).tokenizer.vocab_size > 50000
    assert json.loads((base.folder / "generation_config.json").read_text())["max_length"] == 77
    model = load_checkpoint(base)
    assert (model.language, model.context) == ("en", "short")
    assert find_checkpoint(str(parent)) == base  # from the cache


def test_a_child_is_its_adapter_on_its_parent_and_a_grandchild_on_that(
    parent: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    child = write_child(tmp_path / "child", parent, seed=2)
    grandchild = write_child(tmp_path / "grandchild", child, seed=3)
    network = load_model(str(random_checkpoint))
    for folder in (parent, child, grandchild):
        network = merge_adapter(network, folder)
        assert torch.allclose(logits(load_model(str(folder)).network), logits(network.network), atol=1e-5)
    told = read_card(grandchild).lineage
    assert [one.name for one in told] == [str(child), str(parent), str(random_checkpoint)]
    assert told[0].digest == read_card(grandchild).base.digest == find_checkpoint(str(child)).digest
    assert [bool(one.fingerprint) for one in told] == [True, True, False]
    assert root(grandchild) == str(random_checkpoint)
    assert (
        f"It was made from `{child}` ({told[0].fingerprint}), which was made from" in (grandchild / README).read_text()
    )


def test_a_child_needs_no_parent_that_may_be_deleted(parent: Path, tmp_path: Path) -> None:
    grandchild = write_child(tmp_path / "grandchild", write_child(tmp_path / "child", parent, seed=2), seed=3)
    before = logits(load_model(str(grandchild)).network)
    for folder in (parent, tmp_path / "child", tmp_path / "cache" / "checkpoints"):
        shutil.rmtree(folder)
    assert torch.equal(logits(load_model(str(grandchild)).network), before)


def test_a_parent_that_was_trained_anew_at_its_place_leaves_its_child_as_it_was(
    parent: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    child = write_child(tmp_path / "child", parent, seed=2)
    before = logits(load_model(str(child)).network)
    shutil.rmtree(parent)
    write_artifact(parent, str(random_checkpoint), seed=9)
    assert torch.equal(logits(load_model(str(child)).network), before)


def test_what_was_changed_in_the_copy_of_the_parent_is_refused(parent: Path, tmp_path: Path) -> None:
    child = write_child(tmp_path / "child", parent, seed=2)
    weights = child / PARENT / "adapter_model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: digest"):
        load_model(str(child))
    shutil.rmtree(child / PARENT)
    with pytest.raises(UserError, match="missing, though it is recorded"):
        load_model(str(child))


def test_a_full_fine_tune_is_a_base_that_is_named_and_known_by_its_digest(parent: Path, tmp_path: Path) -> None:
    export(str(parent), tmp_path / "full", "transformers")
    child = write_child(tmp_path / "child", tmp_path / "full", seed=2)
    assert not (child / PARENT).exists()
    assert read_card(child).lineage[0].name == str(tmp_path / "full")
    expected = merge_adapter(load_model(str(tmp_path / "full")), child)
    assert torch.equal(logits(load_model(str(child)).network), logits(expected.network))
    shutil.rmtree(tmp_path / "full")
    export(read_card(parent).base.name, tmp_path / "full", "transformers")
    with pytest.raises(UserError, match="has the digest"):
        load_model(str(child))


def test_a_childs_adapter_is_never_put_onto_the_base_of_its_parent(
    parent: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    """Adapters of one base share batches. A child's base is another one."""
    child, sibling = (write_child(tmp_path / name, parent, seed) for seed, name in ((2, "child"), (3, "sibling")))
    assert find_base(child, read_card(child)).digest != find_base(parent, read_card(parent)).digest
    names = [str(random_checkpoint), str(parent), str(child), str(sibling)]
    pool = EnginePool(ServeConfig(model=names[0], engine="torch", share_bases=True))
    engines = [pool.load(Version(name))[1] for name in names]
    assert [engine for engine in engines if not isinstance(engine, AdapterEngine)] == []
    assert [engines[0].group == engine.group for engine in engines] == [True, True, False, False]
    assert engines[2].group == engines[3].group
    clip = DecodingRequest(np.random.default_rng(0).standard_normal((80, 300)).astype(np.float16))
    said = []
    for engine, name in zip(engines[1:], names[1:], strict=True):
        assert isinstance(engine, AdapterEngine)
        with engine.base.busy() as model:
            said.append(decode(model, [clip], "short", adapters=[engine.adapter])[0].tokens)
        assert said[-1] == decode(load_model(name), [clip], "short")[0].tokens
    assert len(set(map(tuple, said))) == len(said), "adapters without effect would prove nothing"


def test_a_child_is_exported_whole(parent: Path, tmp_path: Path) -> None:
    child = write_child(tmp_path / "child", parent, seed=2)
    export(str(child), tmp_path / "out", "transformers")
    network = WhisperForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(network), logits(load_model(str(child)).network))
    assert read_card(tmp_path / "out").lineage == read_card(child).lineage


def test_only_the_card_of_a_child_has_a_lineage(parent: Path, tmp_path: Path) -> None:
    """Earlier versions refuse a card with a key that they do not know."""
    assert "lineage" not in json.loads((parent / CARD).read_text())
    child = write_child(tmp_path / "child", parent, seed=2)
    assert len(json.loads((child / CARD).read_text())["lineage"]) == 2


def test_an_artifact_at_an_address_is_a_base_too(parent: Path, s3: str) -> None:
    place = storage.join(s3, "speech", "artifact")
    transfer.upload(parent, place, last=CARD)
    assert find_checkpoint(place).digest == find_checkpoint(str(parent)).digest


def test_an_artifact_that_was_never_finished_says_so(parent: Path) -> None:
    (parent / CARD).unlink()
    with pytest.raises(UserError, match="it was never finished"):
        find_checkpoint(str(parent))


@pytest.mark.parametrize("length", [1, 2])
def test_a_card_whose_base_leads_back_to_itself_was_a_recursion_error(
    tmp_path: Path, random_checkpoint: Path, length: int
) -> None:
    circle = [write_artifact(tmp_path / f"{n}", str(random_checkpoint), seed=1) for n in range(length)]
    for n, folder in enumerate(circle):
        card = read_card(folder)
        base = card.base.model_copy(update={"name": str(circle[(n + 1) % length])})
        (folder / CARD).write_text(card.model_copy(update={"base": base}).model_dump_json())
    for look in (find_checkpoint, load_model, lambda name: find_base(Path(name), read_card(Path(name)))):
        with pytest.raises(UserError, match="leads back to itself"):
            look(str(circle[0]))
