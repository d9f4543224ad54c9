"""Local modules for Hugging Face's ``evaluate``, which fetches its own from a hub.

``evaluate.load(path)`` takes a module's folder and copies the file into a cache below ``HF_HOME`` (default: the home
directory). Where that cannot be written, set ``HF_HOME``, or make the metric without a copy:
``Wer(keep_in_memory=True, cache_dir=folder)`` from ``asr.metrics.wer.wer``. The counting is ``asr.edits``.
"""
