"""The speech domain: audio, features, text, scoring, models, decoding, artifacts. Knows no Ray and no web."""

import logging
import os
import platform

# PEFT imports bitsandbytes wherever it is installed, and on CPUs that warns of kernels which a hub would have.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# NumPy's products here are small, and its threads wait busily after each, on cores that the network's threads need: an
# engine in the same process took a tenth longer. Elsewhere than on x86, torch may go by the same variable.
if platform.machine() == "x86_64":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
