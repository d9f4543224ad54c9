"""Word error rate as a local ``evaluate`` metric: ``evaluate.load("asr/metrics/wer")``."""

import evaluate

from asr.edits import count_words
from asr.metrics import metric_info


class Wer(evaluate.Metric):
    """Word error rate over all utterances: (substitutions + deletions + insertions) / reference length."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("Word error rate", "wer", "words")

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        return count_words(references, predictions).as_metric("wer")
