from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from asr.audio.decode import encode_flac
from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.family import SpeechModel, load_checkpoint
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from train.evaluation.offline import evaluate


def heard(model: SpeechModel, utterances: Sequence[Utterance]) -> dict[str, str]:
    return {one.id: one.hypothesis for one in evaluate(model, utterances, "full").evaluation.results}


def test_tiny_en_understands_telephone_prompts(english_model: SpeechModel, flac_clips: list[Utterance]) -> None:
    clips = flac_clips[:6]
    reported: list[tuple[int, int]] = []
    done = evaluate(english_model, clips, "full", on_progress=lambda now, total: reported.append((now, total)))
    assert done.quarantined == []
    assert 0.0 <= done.evaluation.wer.rate < 0.3
    assert {one.id: one.reference for one in done.evaluation.results} == {clip.id: clip.text for clip in clips}
    assert done.evaluation.audio_s == pytest.approx(sum(clip.duration_s or 0.0 for clip in clips), abs=0.01)
    assert reported == [(6, 6)]
    assert done.evaluation.seconds > 0
    shuffled = list(clips)
    Random(0).shuffle(shuffled)
    assert heard(english_model, shuffled) == {one.id: one.hypothesis for one in done.evaluation.results}


def test_progress_comes_chunk_by_chunk(
    small_model: SpeechModel, flac_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.evaluation.offline._CHUNK", 2)
    reported: list[tuple[int, int]] = []
    evaluate(small_model, flac_clips[:5], "short", on_progress=lambda now, total: reported.append((now, total)))
    assert reported == [(2, 5), (4, 5), (5, 5)]


def test_a_model_of_short_contexts_is_asked_in_either(small_model: SpeechModel, flac_clips: list[Utterance]) -> None:
    model = replace(small_model, short_context=True)
    for context, expected in ((None, "short"), ("full", "full")):
        evaluation = evaluate(model, flac_clips[:3], context).evaluation  # type: ignore[arg-type]
        assert (evaluation.context, len(evaluation.results)) == (expected, 3)
    assert evaluate(small_model, flac_clips[:1], None).evaluation.context == "full"


def test_words_where_nobody_speaks_are_insertions_of_their_own(
    english_model: SpeechModel, flac_clips: list[Utterance]
) -> None:
    """A clip of speech without a reference stands for what a model invents on noise."""
    clips = flac_clips[:1]
    alone = evaluate(english_model, clips, "full").evaluation
    wordless = replace(flac_clips[2], id="wordless", text="")
    silence = replace(wordless, id="silence", audio=encode_flac(np.zeros(32_000, dtype=np.float32)))
    found = evaluate(english_model, [*clips, wordless, silence], "full")
    assert found.quarantined == []
    assert found.evaluation.wer == alone.wer and found.evaluation.wer_ortho == alone.wer_ortho
    assert found.evaluation.on_silence.clips == 2
    assert found.evaluation.on_silence.words >= len(flac_clips[2].text.split()) - 2


def test_rows_that_cannot_be_used_are_named(small_model: SpeechModel, flac_clips: list[Utterance]) -> None:
    clip = flac_clips[0]
    rows = [
        replace(clip, id="gone", audio="/no/such.flac"),
        replace(clip, id="wordless", text=" "),
        replace(clip, id="signs", text="..."),
        replace(clip, id="mute", audio=encode_flac(np.zeros(16_000, dtype=np.float32))),
        clip,
        replace(clip, id="cut", start_s=1.0, end_s=1.01),
    ]
    reported: list[int] = []
    done = evaluate(small_model, rows, "short", on_progress=lambda now, total: reported.append(now))
    assert [one.id for one in done.evaluation.results] == [clip.id]
    assert [one.id for one in done.evaluation.silence] == ["wordless", "signs"]
    reasons = {row.id: row.reason for row in done.quarantined}
    assert reasons == {"gone": "missing_file", "mute": "silent", "cut": "too_short"}
    counted = len(done.evaluation.results) + len(done.evaluation.silence) + len(done.quarantined)
    assert counted == len(rows) == reported[-1] + len(done.quarantined)
    with pytest.raises(UserError, match=r"the first: gone: missing_file: /no/such\.flac: no such file"):
        evaluate(small_model, rows[:1], "short")


def test_a_clip_that_is_named_twice_was_scored_twice(
    small_model: SpeechModel, flac_clips: list[Utterance], trips: list[int]
) -> None:
    done = evaluate(small_model, [flac_clips[0], flac_clips[1], flac_clips[0]], "short")
    assert trips == [2]  # requests to the sandbox
    assert [row.reason for row in done.quarantined] == ["duplicate_id"]
    assert len(done.evaluation.results) == 2


def test_the_language_of_a_row_comes_first_then_what_was_asked_then_the_models(
    small_model: SpeechModel, flac_clips: list[Utterance]
) -> None:
    clip, model = flac_clips[0], replace(small_model, language="en")
    assert evaluate(model, [clip], "short").evaluation.language == "en"
    with pytest.raises(UserError, match="English only, not 'fr'"):
        evaluate(model, [replace(clip, language=None)], "short", "fr")
    with pytest.raises(UserError, match="English only, not 'de'"):
        evaluate(model, [replace(clip, language="de")], "short", "en")


@pytest.mark.parametrize("language", [None, "de"])
def test_letters_that_a_ctc_vocabulary_lacks_are_errors(
    language: str | None, tmp_path: Path, flac_clips: list[Utterance]
) -> None:
    folder = tiny.write(tmp_path, "wav2vec2-base-960h")
    model = load_checkpoint(Checkpoint("tiny", folder, "sha256:1", language="it"))
    rows = [replace(clip, text="Größe 什么", language=language) for clip in flac_clips[:2]]
    done = evaluate(model, rows, "short")
    assert done.quarantined == []
    assert [one.reference for one in done.evaluation.results] == ["Größe 什么"] * 2
    assert done.evaluation.wer.rate >= 1.0
