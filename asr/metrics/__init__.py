"""Local modules for Hugging Face's ``evaluate``, which fetches its own from a hub.

``evaluate.load(path)`` takes a module's folder and copies the file into a cache below ``HF_HOME`` (default: the home
directory). Where that cannot be written, set ``HF_HOME``, or make the metric without a copy:
``Wer(keep_in_memory=True, cache_dir=folder)`` from ``asr.metrics.wer.wer``. The counting is ``asr.edits``.
"""

import datasets
import evaluate


def metric_info(rate: str, name: str, units: str) -> evaluate.MetricInfo:
    """Describe an error rate such as ``word error rate``, returned as ``wer`` and counted in ``words``."""
    text = datasets.Value("string")
    return evaluate.MetricInfo(
        description=f"{rate}, with the counts it is made of, so that the results of workers add up.",
        citation="",
        inputs_description=f"""
    predictions: list of transcripts, as they are to be compared (see asr.text.normalise).
    references: list of what was said. One may be empty: all {units} of its prediction are insertions.
Returns:
    {name}, hits, substitutions, deletions, insertions, reference_length (in {units}).
""",
        features=datasets.Features({"predictions": text, "references": text}),
    )
