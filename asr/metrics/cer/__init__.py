"""See `cer.py`."""
