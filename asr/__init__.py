"""The speech domain: audio, features, text, scoring, models, decoding, artifacts. Knows no Ray and no web."""

import logging

# PEFT imports bitsandbytes wherever it is installed, and on CPUs that warns of kernels which a hub would have.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
