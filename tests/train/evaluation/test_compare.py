from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.scoring.comparison import Measured
from asr.utterance import Utterance
from train.evaluation import compare as comparing
from train.evaluation.candidate import candidates
from train.evaluation.compare import KEPT, compare
from train.evaluation.measuring import Advance, Measurement, measure


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were measured: in this process, which takes a tenth of the time."""
    names: list[str] = []

    def here(task: Measurement, on_progress: Advance) -> Measured:
        names.append(task.model)
        return measure(task, on_progress)

    monkeypatch.setattr(comparing, "measured_apart", here)
    return names


@pytest.mark.slow
def test_what_is_done_is_kept_and_is_not_done_again(
    asked: list[str], small_base: str, flac_clips: list[Utterance], tmp_path: Path
) -> None:
    models = candidates([small_base, small_base], "short")
    clips = flac_clips[:3]
    first = compare(models, clips, None, counting, tmp_path)
    assert asked == [small_base] * 2
    assert [one.id for one in first.first.results] == [clip.id for clip in clips]
    assert first.names[0].endswith("(1)") and first.hypotheses[0] == first.hypotheses[1]
    next((tmp_path / KEPT).iterdir()).unlink()  # as if it had been interrupted
    again = compare(models, clips, None, counting, tmp_path)
    assert len(asked) == 3 and again.hypotheses == first.hypotheses
    compare(models, clips, None, counting, tmp_path)
    assert len(asked) == 3
    told = compare([replace(one, digest="sha256:of an artifact") for one in models], clips, None, counting, tmp_path)
    assert {one.digest for one in told.models} == {"sha256:of an artifact"}, "kept by a version that told the base's"
    assert len(asked) == 3
    compare(models[:1], [replace(clips[0], text="other words"), *clips[1:]], None, counting, tmp_path)
    compare([replace(models[0], context="full")], clips, None, counting, tmp_path)
    compare([replace(models[0], identity="other weights")], clips, None, counting, tmp_path)
    assert len(asked) == 6


@pytest.mark.medium
def test_texts_are_compared_by_the_rules_of_one_language(
    asked: list[str], small_base: str, flac_clips: list[Utterance]
) -> None:
    model = candidates([small_base], "short")[0]
    unnamed = [replace(flac_clips[0], language=None)]
    assert compare([model], unnamed, "en", counting).first.language == "en"
    assert compare([model], flac_clips[:1], None, counting).first.language == flac_clips[0].language
    assert compare([replace(model, language="en")], unnamed, None, counting).first.language == "en"
    assert compare([model], unnamed, None, counting).first.language is None


@pytest.mark.medium
def test_a_model_that_fails_is_named(
    small_base: str, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(task: Measurement, on_progress: Advance) -> Measured:
        raise UserError("out of memory", "use another machine")

    monkeypatch.setattr(comparing, "measured_apart", fails)
    with pytest.raises(UserError, match=rf"{small_base}: out of memory \(use another machine\)"):
        compare(candidates([small_base], "short"), flac_clips[:1], None, counting)
