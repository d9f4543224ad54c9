"""What the comparison at a demo's end tells; models are compared in tests/e2e."""

from __future__ import annotations

from pathlib import Path

from asr.scoring.comparison import Measured, ModelComparison
from asr.scoring.evaluation import Evaluation, UtteranceResult
from whisperfleet.comparison import KindsCompared


def measured(family: str, hypothesis: str, seconds: float) -> Measured:
    evaluation = Evaluation(family, "it", "short", [UtteranceResult("a", "Uno, due.", hypothesis, 4.0)], seconds)
    return Measured(evaluation, "sha256:x", family, 10, 40, 100, None, "CPU, 1 threads", 0.1, 0.1)


def test_the_json_line_gets_the_figures_of_both_kinds() -> None:
    comparison = ModelComparison([measured("whisper", "Uno, due.", 2.0), measured("ctc", "uno tre", 0.5)], [])
    artifact, report = Path("runs/demo-1-ctc/artifact"), Path("runs/demo-1-comparison/report.html")
    line = KindsCompared(comparison, {"seconds": 10.0, "audio_s": 55.0}, artifact, report).line()
    assert line == {
        "wer_whisper": 0.0,
        "wer_whisper_ortho": 0.0,
        "cer_whisper": 0.0,
        "audio_s_per_s_whisper": 2.0,
        "wer_ctc": 0.5,
        "wer_ctc_ortho": 1.0,
        "cer_ctc": round(comparison.models[1].evaluation.cer.rate, 4),
        "audio_s_per_s_ctc": 8.0,
        "speed_ratio_ctc": 4.0,
        "compared_clips": 1,
        "train_seconds_ctc": 10.0,
        "train_audio_s_per_s_ctc": 5.5,
        "artifact_ctc": str(artifact.resolve()),
        "report_comparison": str(report.resolve()),
    }
    assert 0 < comparison.models[1].evaluation.cer.rate < 1
