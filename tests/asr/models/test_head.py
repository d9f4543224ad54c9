from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from asr.models.checkpoint import Checkpoint
from asr.models.head import HeadSettings, InitialModel, on_base, with_head

FILES = (("config.json", b"{}"), ("vocab.json", b'{"a": 1}'))


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("WHISPERFLEET_CACHE", str(tmp_path / "cache"))
    return Checkpoint("base", tmp_path / "base", "sha256:1")


def test_a_head_lies_in_a_folder_of_its_own_and_the_weights_in_the_bases(base: Checkpoint) -> None:
    made = with_head(base, FILES)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == dict(FILES)
    assert (made.weights, made.digest, made.name) == (base.folder, base.digest, base.name)
    assert with_head(base, FILES).folder == made.folder


def test_other_symbols_or_another_base_are_another_head(base: Checkpoint) -> None:
    other = Checkpoint("base", base.folder, "sha256:2")
    folders = {with_head(base, FILES).folder, with_head(other, FILES).folder, with_head(base, FILES[:1]).folder}
    assert len(folders) == 3


def test_a_head_on_a_head_keeps_the_first_ones_weights(base: Checkpoint, tmp_path: Path) -> None:
    again = on_base(with_head(base, FILES), tmp_path / "again")
    assert (again.folder, again.weights) == (tmp_path / "again", base.folder)


def test_a_model_without_a_new_head_is_its_checkpoint() -> None:
    assert InitialModel("builtin:tiny.en").checkpoint().name == "builtin:tiny.en"


def test_a_vocabulary_of_subwords_needs_room() -> None:
    with pytest.raises(ValidationError, match="subwords"):
        HeadSettings(unit="subword", subwords=10)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"subwords": 800}, "subwords needs unit=subword"),
        ({"language_model": "none", "word_bonus": 2.0}, "word_bonus needs a language model"),
        ({"language_model": "none", "language_weight": 0.5}, "language_weight needs a language model"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        HeadSettings.model_validate(settings)
