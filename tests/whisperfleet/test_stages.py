"""What the demo decides by itself; the whole of it runs in tests/e2e."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from asr.data.manifest import read_manifest
from asr.errors import UserError
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.releases import write_release
from train.data.prepare import PrepareConfig
from whisperfleet import stages
from whisperfleet.ask import EndpointAnswer
from whisperfleet.stages import (
    SERVED_CLIPS,
    Announcer,
    DemoOutcome,
    prepare_speech,
    same_question,
    show_answers,
    spread,
)


def evaluation(hypothesis: str, seconds: float) -> Evaluation:
    return Evaluation("x", "it", "full", [UtteranceResult("a", "Uno, due.", hypothesis, 1.0)], seconds)


def outcome(*answers: EndpointAnswer) -> DemoOutcome:
    return DemoOutcome(
        before=evaluation("tre quattro", 3.0),
        short=evaluation("Uno, due.", 1.0),
        full=evaluation("uno tre", 2.0),
        training={"seconds": 10.0, "audio_s": 55.0},
        answers=answers,
        artifact=Path("runs/demo-1/artifact"),
        report=Path("runs/demo-1/report.html"),
    )


def test_the_json_line_has_every_promised_figure() -> None:
    line = outcome(EndpointAnswer("a", "Uno, due.", "uno due", "", 0.1)).line()
    assert line == {
        "wer_before": 1.0,
        "wer_after_short": 0.0,
        "wer_after_full": 0.5,
        "wer_before_ortho": 1.0,
        "wer_after_short_ortho": 0.0,
        "wer_after_full_ortho": 1.0,
        "test_clips": 1,
        "train_seconds": 10.0,
        "train_audio_s_per_s": 5.5,
        "eval_seconds_short": 1.0,
        "eval_seconds_full": 2.0,
        "served_ok": True,
        "artifact": str(Path("runs/demo-1/artifact").resolve()),
        "report": str(Path("runs/demo-1/report.html").resolve()),
    }


def test_stages_are_numbered(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Announcer(7)
    stage("weights: [x]")
    stage("speech")
    assert capsys.readouterr().out == "[1/7] weights: [x]\n[2/7] speech\n"


@pytest.mark.parametrize("answers", [[], [EndpointAnswer("a", "x", None, "500", 0.1)]], ids=["none", "an error"])
def test_served_ok_needs_every_answer(answers: list[EndpointAnswer]) -> None:
    assert outcome(*answers).line()["served_ok"] is False


def test_the_served_clips_are_of_all_lengths() -> None:
    clips = [Utterance(str(i), "a.flac", "x", duration_s=float(i)) for i in range(64)]
    chosen = [clip.duration_s for clip in spread(clips)]
    assert len(chosen) == SERVED_CLIPS
    assert chosen[0] < 10 < 60 < chosen[-1]
    assert len(spread(clips[:3])) == 3


def test_a_kept_wer_is_not_taken_for_that_of_another_model_or_other_clips() -> None:
    """A demo interrupted before training and started again with another ``base`` showed the WER of the first."""
    kept, clip = evaluation("uno", 1.0), Utterance("a", "a.flac", "Uno, due.")
    assert same_question(kept, "x", [clip], "it")
    assert not same_question(kept, "y", [clip], "it")
    assert not same_question(kept, "x", [clip], "en")
    assert not same_question(kept, "x", [Utterance("a", "a.flac", "Uno, tre.")], "it")
    assert not same_question(kept, "x", [clip, Utterance("b", "b.flac", "Due.")], "it")


def test_brackets_in_a_transcript_are_printed_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_answers(
        [
            EndpointAnswer("a", "a [bold]chiocciola[/bold]", "a [@]", "", 0.1),
            EndpointAnswer("b", "b", None, "[x] 500", 0.1),
        ]
    )
    printed = capsys.readouterr().out
    assert "[bold]chiocciola[/bold]" in printed and "a [@]" in printed and "[x] 500" in printed


def test_a_release_without_a_test_split_is_none_to_measure_on(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp3").touch()
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("client_id\tpath\tsentence\tlocale\nme\ta.mp3\tCiao\tit\n")
    with pytest.raises(UserError, match=r"its splits are train, validation \(name the files of one"):
        prepare_speech(str(tmp_path), tmp_path / "out")


@pytest.mark.medium
def test_rows_without_splits_are_dealt_and_those_of_a_release_stay_where_they_are(
    english_clips: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_beside(tmp_path / "mine.jsonl", english_clips)
    monkeypatch.setattr(stages, "PrepareConfig", partial(PrepareConfig, min_test_clips=5))
    dealt = prepare_speech(str(tmp_path / "mine.jsonl"), tmp_path / "dealt")
    assert dealt.clips["test"] == 5 and sum(dealt.clips.values()) == len(english_clips)
    write_release(tmp_path / "cv", "en", train=english_clips[:3], dev=[], test=english_clips[3:5])
    given = prepare_speech(str(tmp_path / "cv"), tmp_path / "given")
    found = {name: [clip.text for clip in read_manifest(manifest)] for name, manifest in given.manifests.items()}
    told = {"train": english_clips[:3], "test": english_clips[3:5]}
    assert {name: sorted(texts) for name, texts in found.items()} == {
        name: sorted(clip.text for clip in clips) for name, clips in told.items()
    }
