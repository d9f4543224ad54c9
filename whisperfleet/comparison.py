"""The end of ``demo --compare``: a fine-tuned Whisper beside a CTC head on the same encoder, on the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.models.artifact import read_card, record_evaluations
from asr.parsed import JsonObject
from asr.scoring.comparison import ModelComparison
from asr.utterance import Utterance
from cluster import termination
from train.console import counting
from train.evaluation.candidate import candidates
from train.evaluation.cli import show
from train.evaluation.compare import compare, write


@dataclass(frozen=True)
class KindsCompared:
    """Both models' results, the decoder's first; ``training`` and ``artifact`` are of the one with a CTC head."""

    comparison: ModelComparison
    training: JsonObject
    artifact: Path
    report: Path

    def line(self) -> dict[str, object]:
        """Return the figures for machines, more keys of the demo's: rates are shares, speeds audio seconds a second."""
        kinds = dict(zip(("whisper", "ctc"), self.comparison.models, strict=True))
        rates: dict[str, object] = {}
        for name, one in kinds.items():
            evaluation = one.evaluation
            rates[f"wer_{name}"] = round(evaluation.wer.rate, 4)
            rates[f"wer_{name}_ortho"] = round(evaluation.wer_ortho.rate, 4)
            rates[f"cer_{name}"] = round(evaluation.cer.rate, 4)
            rates[f"audio_s_per_s_{name}"] = round(evaluation.speed, 2)
        seconds, audio_s = self.training["seconds"], self.training["audio_s"]
        return {
            **rates,
            "speed_ratio_ctc": round(kinds["ctc"].evaluation.speed / kinds["whisper"].evaluation.speed, 2),
            "compared_clips": len(self.comparison.first.results),
            "train_seconds_ctc": round(seconds, 1),
            "train_audio_s_per_s_ctc": round(audio_s / seconds, 2),
            "artifact_ctc": str(self.artifact.resolve()),
            "report_comparison": str(self.report.resolve()),
        }


def compare_kinds(
    whisper: Path, ctc: Path, test: Sequence[Utterance], language: str | None, folder: Path
) -> KindsCompared:
    """Compare two artifacts on a test set, print a table, and write the report and what is kept into a folder.

    The figures of the second one go into its card. What an interrupted comparison had measured is not done again.
    """
    names = [str(whisper), str(ctc)]
    folder.mkdir(parents=True, exist_ok=True)
    with termination.telling(lambda: ": the same command goes on with the models that are left"):
        found = compare(candidates(names, context=None), test, language, counting, folder)
    write(folder, found, "Whisper and CTC on the same speech", {"language": language or "as rows say"})
    show(found)
    card = read_card(ctc)
    record_evaluations(ctc, [{"label": "after", **found.models[1].evaluation.summary()}])
    return KindsCompared(found, card.training, ctc, folder / "report.html")
