"""Word error rate as a metric of ``evaluate``, which wants a folder of its own: see ``wer.py``."""
