"""Character error rate as a local ``evaluate`` metric: ``evaluate.load("asr/metrics/cer")``."""

import evaluate

from asr.edits import count_characters
from asr.metrics import metric_info


class Cer(evaluate.Metric):
    """Character error rate over all utterances: (substitutions + deletions + insertions) / reference length."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("Character error rate", "cer", "characters")

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        return count_characters(references, predictions).as_metric("cer")
