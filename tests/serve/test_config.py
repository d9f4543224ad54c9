from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from asr.config import resolve
from asr.errors import UserError
from serve.config import Replicas, ServeConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_defaults_listen_on_loopback_only() -> None:
    config = ServeConfig(model="builtin:base")
    assert (config.host, config.port) == ("127.0.0.1", 8000)
    assert config.max_upload_bytes == 25 * 1024 * 1024
    assert not dataclasses.is_dataclass(config) and config.model_config["frozen"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_an_address_that_others_reach_needs_a_word(host: str) -> None:
    with pytest.raises(UserError, match="exposed=true"):
        resolve(ServeConfig, overrides=["model=m", f"host='{host}'"])
    assert resolve(ServeConfig, overrides=["model=m", f"host='{host}'", "exposed=true"]).value.host == host


def test_an_address_that_others_reach_may_ask_for_keys_instead() -> None:
    assert ServeConfig(model="m", host="0.0.0.0", keys="env:KEYS").host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert ServeConfig(model="m", host=host).host == host


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(UserError) as raised:
        resolve(ServeConfig, overrides=["model=m", "replica=2", "max_batch_audio_s=29", "port=70000"])
    message = str(raised.value)
    assert "did you mean 'replicas'" in message and "max_batch_audio_s" in message and "port" in message


def test_replicas_are_a_number_or_a_range() -> None:
    assert resolve(ServeConfig, overrides=["model=m", "replicas=3"]).value.replicas == Replicas(min=3, max=3)
    wide = resolve(ServeConfig, CONFIGS / "serve.yaml", ["model=m", "replicas.max=4"]).value.replicas
    assert (wide.min, wide.max) == (1, 4)
    with pytest.raises(UserError, match="max=1 is below min=2"):
        resolve(ServeConfig, overrides=["model=m", "replicas.min=2"])
    with pytest.raises(UserError, match="greater than or equal to 1"):
        resolve(ServeConfig, overrides=["model=m", "replicas=0"])
    with pytest.raises(UserError, match=r"did you mean 'replicas\.max'"):
        resolve(ServeConfig, overrides=["model=m", "replicas.maxx=2"])


def test_a_gpu_may_be_shared() -> None:
    assert resolve(ServeConfig, overrides=["model=m", "gpu=0.5"]).value.gpu == 0.5
    assert resolve(ServeConfig, overrides=["model=m", "gpu=true"]).value.gpu == 1.0
    with pytest.raises(UserError, match="less than or equal to 1"):
        resolve(ServeConfig, overrides=["model=m", "gpu=2"])


def test_the_public_name_shows_no_path(tmp_path: Path) -> None:
    artifact = tmp_path / "italian" / "artifact"
    artifact.mkdir(parents=True)
    assert ServeConfig(model=str(artifact)).public_name == "italian"
    assert ServeConfig(model=str(tmp_path / "italian")).public_name == "italian"
    assert ServeConfig(model=str(artifact), name="mine").public_name == "mine"
    assert ServeConfig(model="openai/whisper-small").public_name == "openai/whisper-small"
    assert ServeConfig(model="builtin:base").public_name == "builtin:base"


def test_several_models_have_names_and_the_first_is_the_default(tmp_path: Path) -> None:
    both = resolve(ServeConfig, overrides=["model=builtin:base", "name=ours", "models.it=runs/it", "models.nl=runs/nl"])
    assert both.value.artifacts == {"ours": "builtin:base", "it": "runs/it", "nl": "runs/nl"}
    assert both.value.public_name == "ours"
    several = ServeConfig(models={"it": "runs/it", "nl": "runs/nl"})
    assert (several.public_name, list(several.artifacts)) == ("it", ["it", "nl"])
    assert several.narrowed("runs/nl").artifacts == {"runs/nl": "runs/nl"}
    assert ServeConfig(model="m").artifacts == {"m": "m"}


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        ([], "there is no model"),
        (["models.it=runs/it", "name=ours"], "name=ours is for model"),
        (["model=runs/it", "models.runs/it=runs/nl"], "has the name of model=runs/it"),
        (["model=m", "models.it=''"], "models.it is empty"),
        (["model=m", "share_bases=true", "engine=ctranslate2"], "share_bases needs engine=torch"),
        (["model=m", "share_bases=true", "engine=onnx"], "onnx has no adapters"),
        (["model=m", "memory_gb=-1"], "greater than or equal to 0"),
    ],
)
def test_what_is_no_set_of_models_is_named(words: list[str], mistake: str) -> None:
    with pytest.raises(UserError, match=mistake):
        resolve(ServeConfig, overrides=words)


def test_threads_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert ServeConfig(model="m").threads == 8
    assert ServeConfig(model="m", replicas=3).threads == 2
    assert ServeConfig(model="m", replicas={"max": 3}).threads == 2  # as many as there may be
    assert ServeConfig(model="m", replicas=3, cpus_each=5).threads == 5
    assert ServeConfig(model="m", gpu=0.5).threads == 4


def test_the_example_holds_every_key_at_its_default() -> None:
    resolved = resolve(ServeConfig, CONFIGS / "serve.yaml", ["model=m"])
    assert resolved.value == ServeConfig(model="m")
    unnamed = {key for key, _, origin in resolved.rows() if origin == "default"}
    assert unnamed == set()
