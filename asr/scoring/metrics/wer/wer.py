"""Word error rate as a local ``evaluate`` metric: ``evaluate.load("asr/scoring/metrics/wer")``."""

import evaluate

from asr.scoring.edits import align_words
from asr.scoring.metrics import MetricOptions, metric_info, rates
from asr.scoring.normalizer import Normaliser


class Wer(evaluate.Metric):
    """Word error rate over all utterances: (substitutions + deletions + insertions) / reference length."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("Word error rate", "wer", "words")

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        normaliser: Normaliser | None = None,
        language: str | None = None,
        interval: bool = False,
    ) -> dict[str, float | int]:
        return rates("wer", align_words, references, predictions, MetricOptions(normaliser, language, interval))
