from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import decode as decode_audio
from asr.errors import UserError
from asr.inference import engine
from asr.inference.engine import (
    Engine,
    FastEngine,
    choose,
    decode_together,
    load_engine,
)
from asr.models.backends import NotExportable
from asr.models.ctc import onnx_export
from asr.models.export import export
from asr.models.whisper import ct2_backend
from asr.transcript import DecodingRequest
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.asr.models.test_export import write_artifact


@pytest.fixture(scope="module", params=["torch", "ctranslate2"])
def loaded(request: pytest.FixtureRequest, tiny_en_name: str) -> Engine:
    return load_engine(tiny_en_name, "tiny", request.param, threads=1)


def test_both_engines_know_the_same_of_a_model(loaded: Engine) -> None:
    info = loaded.info
    assert (info.name, info.language, info.languages, info.context) == ("tiny", "en", frozenset({"en"}), "full")
    how = ("torch", "float32") if isinstance(loaded, engine.TorchEngine) else ("ctranslate2", "int8")
    assert (info.engine, info.precision) == how
    assert info.computed == f"whisper, {', '.join(how)}, each window padded to 30 s"
    assert len(pickle.dumps(info)) < 200_000, "it travels without the weights"


def test_both_decode_clips_in_their_order(loaded: Engine, english_clips: list[Utterance]) -> None:
    clips = [
        DecodingRequest(loaded.info.features(decode_audio(Path(str(clip.audio)))), words=True)
        for clip in english_clips[:2]
    ]
    forward, backward = loaded.decode(clips), loaded.decode(clips[::-1])
    assert forward == backward[::-1]
    assert forward[0].text != forward[1].text
    assert all(each.words and each.segments for each in forward)
    assert loaded.decode([]) == []


def test_each_weighs_something_and_is_a_group_of_its_own(loaded: Engine, random_checkpoint: Path) -> None:
    other = load_engine(str(random_checkpoint), "other", "torch")
    assert 20_000_000 < loaded.nbytes < 200_000_000, "37 million weights and what is held beside them"
    assert loaded.group != other.group
    clip = DecodingRequest(np.zeros((80, 150), np.float16))
    with pytest.raises(ValueError, match="different groups"):
        decode_together([loaded, other], [clip, clip])


def test_of_one_engine_together_is_as_ever(loaded: Engine, english_clips: list[Utterance]) -> None:
    clips = [DecodingRequest(loaded.info.features(decode_audio(Path(str(clip.audio))))) for clip in english_clips[:2]]
    assert decode_together([loaded, loaded], clips) == loaded.decode(clips)
    assert decode_together([], []) == []


@pytest.mark.parametrize("name", ["torch", "ctranslate2"])
def test_an_artifact_brings_its_language_and_context(
    name: str, random_checkpoint: Path, tmp_path: Path, own_cache: Path
) -> None:
    folder = write_artifact(tmp_path / "artifact", str(random_checkpoint))
    info = load_engine(str(folder), "x", name, threads=1).info  # type: ignore[arg-type]
    assert (info.context, info.language) == ("short", "en")


def test_what_was_exported_is_read_by_the_engine_it_was_exported_for(random_checkpoint: Path, tmp_path: Path) -> None:
    export(str(random_checkpoint), tmp_path / "out", "ctranslate2")
    for device in ("cpu", "cuda"):
        assert choose(str(tmp_path / "out"), device) == "ctranslate2"
    assert choose(str(random_checkpoint), "cuda") == "torch"


def test_without_the_package_torch_is_chosen(monkeypatch: pytest.MonkeyPatch, random_checkpoint: Path) -> None:
    monkeypatch.setattr(ct2_backend, "loads", lambda device: False)
    assert choose(str(random_checkpoint), "cpu") == "torch"


@pytest.fixture
def letters(tmp_path: Path) -> str:
    """A tiny CTC checkpoint."""
    return str(tiny.write(tmp_path / "letters", "whisper-tiny"))


def test_each_family_has_its_engine_on_a_cpu(letters: str, random_checkpoint: Path) -> None:
    assert choose(letters, "cpu") == "onnx"
    assert choose(letters, "cuda") == "torch"
    for name, other, hint in ((letters, "ctranslate2", "onnx"), (str(random_checkpoint), "onnx", "ctranslate2")):
        with pytest.raises(UserError, match=f"which engine={other} does not run") as raised:
            load_engine(name, "x", other)  # type: ignore[arg-type]
        assert raised.value.hint == f"use engine=auto, torch or {hint}"


def test_without_what_exports_it_torch_runs_a_ctc_model(
    letters: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("no_such_package",))
    assert choose(letters, "cpu") == "torch"
    with pytest.raises(UserError, match=r"pip install 'whisperfleet\[onnx\]'"):
        load_engine(letters, "x", "onnx")


def test_what_cannot_be_exported_runs_on_torch_unless_its_engine_is_named(
    letters: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*asked: object) -> None:
        raise NotExportable("'letters' cannot be exported")

    monkeypatch.setattr(onnx_export, "write", refuse)
    loaded = load_engine(letters, "x", "auto")
    assert (loaded.info.engine, loaded.info.precision) == ("torch", "float32")
    assert [one.getMessage() for one in caplog.records] == ["'letters' cannot be exported: it runs on torch"]
    with pytest.raises(NotExportable):
        load_engine(letters, "x", "onnx")


@pytest.mark.slow
def test_a_ctc_model_runs_quantised_and_says_so(letters: str, own_cache: Path) -> None:
    loaded = load_engine(letters, "x", "auto", threads=1)
    assert isinstance(loaded, FastEngine)
    assert loaded.info.computed == "ctc, onnx, int8, each window padded to 30 s"
    assert loaded.nbytes < 10_000_000
    clip = DecodingRequest(loaded.info.features(np.zeros(16_000, np.float32)), "en")
    assert loaded.decode([clip, clip])[0] == loaded.decode([clip])[0]
    assert load_engine(letters, "x", "onnx").decode([clip]) == loaded.decode([clip]), "of the cache"


@pytest.mark.parametrize("name", ["auto", "torch", "ctranslate2"])
def test_a_model_that_does_not_exist_is_a_persons_mistake(name: str) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        load_engine("builtin:tinny.en", "x", name)  # type: ignore[arg-type]
