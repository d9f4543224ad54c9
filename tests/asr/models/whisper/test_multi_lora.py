"""Adapters that share a batch: each clip hears its own, wherever its row is and whatever the others do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from asr.audio.decode import decode as decode_audio
from asr.errors import UserError
from asr.models.artifact import load_model
from asr.models.checkpoint import find_checkpoint
from asr.models.family import NO_ADAPTER, num_bytes
from asr.models.whisper.fallback import TEMPERATURES, fails
from asr.models.whisper.loading import load_checkpoint
from asr.models.whisper.multi_lora import MultiLoraBase, is_mixable
from asr.models.whisper.torch_backend import decode
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from tests.asr.models.test_export import write_artifact

EVERY = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


@pytest.fixture(scope="module")
def multilingual(random_multilingual: Path) -> str:
    return str(random_multilingual)


@pytest.fixture(scope="module")
def folders(multilingual: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters of several ranks on different layers, which PEFT would not put into one configuration."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        write_artifact(folder / "few", multilingual, 1, std=2.0, r=2, target_modules=["q_proj"]),
        write_artifact(folder / "all", multilingual, 2, r=8, target_modules=EVERY),
        write_artifact(folder / "some", multilingual, 3, r=4, use_rslora=True, rank_pattern={"fc1": 3}),
    ]


@pytest.fixture
def base(multilingual: str) -> MultiLoraBase:
    return MultiLoraBase(load_checkpoint(find_checkpoint(multilingual)))


def clips_of_all_kinds() -> list[DecodingRequest]:
    generator = np.random.default_rng(2)
    asked: list[dict[str, Any]] = [
        {},
        {"language": "it", "words": True},
        {"timestamps": True, "words": True},
        {"language": "de", "prompt": "Whisperfleet, Ray"},
        {"temperature": 0.7},
        {"language": "en", "task": "translate", "words": True},
        {"language": "it", "prompt": "pronto " * 300, "words": True},
    ]
    return [
        DecodingRequest(generator.standard_normal((80, 130 + 7 * i)).astype(np.float16), **one)
        for i, one in enumerate(asked)
    ]


def mixed(
    base: MultiLoraBase, clips: Sequence[DecodingRequest], adapters: Sequence[str], fallback: bool = True
) -> list[Transcript]:
    with base.busy() as model:
        return decode(model, clips, "short", fallback=fallback, adapters=adapters)


@pytest.mark.slow
def test_each_clip_hears_its_own_adapter_alone_or_mixed(
    base: MultiLoraBase, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "asr.models.whisper.fallback.TEMPERATURES", TEMPERATURES[:2]
    )  # a short ladder: all of it is climbed
    names = [NO_ADAPTER, *(base.add(folder) for folder in folders)]
    clips = clips_of_all_kinds()
    adapters = [names[i % len(names)] for i in range(len(clips))]
    together = mixed(base, clips, adapters)
    assert together == [mixed(base, [clip], [name])[0] for clip, name in zip(clips, adapters, strict=True)]
    assert mixed(base, clips[::-1], adapters[::-1]) == together[::-1]
    assert any(map(fails, mixed(base, clips, adapters, fallback=False))), "or the ladder was not climbed"
    said = {tuple(one.tokens for one in mixed(base, clips, [name] * len(clips), fallback=False)) for name in names}
    assert len(said) == len(names), "adapters without effect would prove nothing"


@pytest.mark.slow
def test_they_say_what_they_say_merged(base: MultiLoraBase, folders: list[Path], multilingual: str) -> None:
    clips = clips_of_all_kinds()[:5]
    for name, folder in [(NO_ADAPTER, multilingual), *((base.add(folder), str(folder)) for folder in folders)]:
        merged = decode(load_model(folder), clips, "short")
        heard = mixed(base, clips, [name] * len(clips), fallback=False)
        assert [one.tokens for one in heard] == [one.tokens for one in merged]
        assert [one.language for one in heard] == [one.language for one in merged], "detected with the adapter"
        assert [one.avg_logprob for one in heard] == pytest.approx([one.avg_logprob for one in merged], abs=1e-3)


@pytest.mark.slow
def test_real_speech_ends_at_different_times_and_each_row_keeps_its_adapter(
    tiny_en_name: str, english_clips: list[Utterance], tmp_path: Path
) -> None:
    base = MultiLoraBase(load_checkpoint(find_checkpoint(tiny_en_name)))
    folders = [
        write_artifact(tmp_path / str(seed), tiny_en_name, seed, std=0.01, r=8, target_modules=EVERY)
        for seed in range(2)
    ]
    names = [NO_ADAPTER, *(base.add(folder) for folder in folders)]
    log_mel = base.model.features
    chosen = sorted(english_clips, key=lambda clip: len(clip.text))[:17:8]
    clips = [DecodingRequest(log_mel(decode_audio(Path(str(clip.audio)))), words=True) for clip in chosen]
    adapters = names
    with base.busy() as model:
        together = decode(model, clips, "full", adapters=adapters)
        alone = [decode(model, [clip], "full", adapters=[name])[0] for clip, name in zip(clips, adapters, strict=True)]
    assert together == alone
    assert len({len(one.tokens) for one in together}) == len(clips)
    [merged] = decode(load_model(str(folders[0])), clips[1:2], "full")
    assert merged.tokens == together[1].tokens


@pytest.mark.slow
def test_adapters_come_and_go_and_nobody_notices(base: MultiLoraBase, folders: list[Path]) -> None:
    plain = base.nbytes
    clips = clips_of_all_kinds()[:2]
    first = base.add(folders[0])
    before = mixed(base, clips, [first, NO_ADAPTER])
    others = [base.add(folder) for folder in folders[1:]]
    assert mixed(base, clips, [first, NO_ADAPTER]) == before
    assert base.nbytes == plain + sum(base.adapter_nbytes(name) for name in (first, *others))
    base.remove(others[0])
    assert mixed(base, clips, [first, NO_ADAPTER]) == before
    base.remove(first)
    assert mixed(base, clips, [others[1], NO_ADAPTER])[1] == before[1]
    base.remove(others[1])
    assert base.nbytes == plain
    again = base.add(folders[0])
    assert mixed(base, clips, [again, NO_ADAPTER]) == before
    base.close()
    with pytest.raises(ValueError, match="unloaded"):
        mixed(base, clips, [NO_ADAPTER, NO_ADAPTER])


def test_the_weights_of_the_base_are_held_once(base: MultiLoraBase, folders: list[Path]) -> None:
    weights = {tensor.data_ptr() for tensor in base.model.network.parameters()}
    base.add(folders[0])
    base.add(folders[1])
    with base.busy() as model:
        assert weights <= {tensor.data_ptr() for tensor in model.network.parameters()}
    assert num_bytes(base.model.network) == sum(tensor.nbytes for tensor in base.model.network.parameters())


def test_what_cannot_be_loaded_leaves_the_others_as_they_are(
    base: MultiLoraBase, folders: list[Path], tmp_path: Path
) -> None:
    name = base.add(folders[0])
    clips = clips_of_all_kinds()[:2]
    before, held = mixed(base, clips, [name, NO_ADAPTER]), base.nbytes
    broken = Path(shutil.copytree(folders[1], tmp_path / "broken"))
    (broken / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="broken"):
        base.add(broken)
    assert base.nbytes == held
    assert mixed(base, clips, [name, NO_ADAPTER]) == before


def test_adapters_are_loaded_while_others_are_decoded_with(base: MultiLoraBase, folders: list[Path]) -> None:
    name = base.add(folders[0])
    clips = clips_of_all_kinds()[:4]
    adapters = [name, NO_ADAPTER] * 2
    expected = mixed(base, clips, adapters, fallback=False)
    heard: list[list[Transcript]] = []
    errors: list[BaseException] = []

    def decode_on() -> None:
        try:
            while thread.is_alive() or len(heard) < 3:
                heard.append(mixed(base, clips, adapters, fallback=False))
        except BaseException as error:
            errors.append(error)

    def come_and_go() -> None:
        for folder in folders[1:]:
            base.remove(base.add(folder))

    thread = Thread(target=come_and_go)
    thread.start()
    decode_on()
    thread.join()
    assert not errors
    assert all(each == expected for each in heard)


def _with(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda config: config | changes


@pytest.mark.parametrize(
    "change",
    [
        _with(use_dora=True),
        _with(bias="all"),
        _with(modules_to_save=["proj_out"]),
        _with(target_modules=["q_proj", "conv1"]),
        _with(target_modules=".*_proj"),
        _with(init_lora_weights="pissa"),
        _with(trainable_token_indices=[1]),
        _with(peft_type="LOHA"),
        _with(an_idea_of_next_year={"x": 1}),
    ],
)
def test_what_asks_for_more_is_not_mixed(
    folders: list[Path], tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    assert all(map(is_mixable, folders))
    config = json.loads((folders[0] / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(change(config)))
    assert not is_mixable(tmp_path)


def test_half_precision_stays_it(multilingual: str, folders: list[Path]) -> None:
    base = MultiLoraBase(load_checkpoint(find_checkpoint(multilingual), dtype=torch.bfloat16))
    name = base.add(folders[1])
    with base.busy() as model:
        assert {tensor.dtype for tensor in model.network.parameters()} == {torch.bfloat16}
    clip = replace(clips_of_all_kinds()[1], words=False)
    assert mixed(base, [clip], [name], fallback=False)[0].text
