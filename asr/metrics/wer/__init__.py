"""See `wer.py`."""
