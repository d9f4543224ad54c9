"""The speech domain: audio, features, text, scoring, models, decoding, artifacts. Knows no Ray and no web."""

import logging

# PEFT imports bitsandbytes wherever it is installed, which on CPUs then warns of kernels that it would fetch from a hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
