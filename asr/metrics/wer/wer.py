"""Word error rate as a local ``evaluate`` metric: ``evaluate.load("asr/metrics/wer")``."""

import datasets
import evaluate

from asr.edits import count_words

DESCRIPTION = "Word error rate, with the counts it is made of, so that the results of workers add up."
INPUTS = """
    predictions: list of transcripts, as they are to be compared (see asr.text.normalise).
    references: list of what was said. One may be empty: all words of its prediction are insertions.
Returns:
    wer, hits, substitutions, deletions, insertions, reference_length (in words).
"""


class Wer(evaluate.Metric):
    """Word error rate over all utterances: (substitutions + deletions + insertions) / reference length."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        return count_words(references, predictions).as_metric("wer")
