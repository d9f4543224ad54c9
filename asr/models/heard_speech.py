"""Length of the speech that a model's training let it hear at once, from its card."""

from __future__ import annotations

from asr.parsed import JsonObject

LONG_CLIPS = 4.0  # times the mean clip: what is longer a model has hardly met


def speech_s(config: JsonObject, data: JsonObject) -> float | None:
    """Return the seconds that training packed utterances to, else those of a long clip; None where nothing tells.

    ``config`` and ``data`` are those of the card. A long clip is taken to be four times as long as the mean one.
    """
    clips, audio_s = data.get("clips"), data.get("audio_s")
    packed = packed_s(config)
    if packed or not (isinstance(clips, int) and isinstance(audio_s, int | float) and clips > 0):
        return packed
    return LONG_CLIPS * audio_s / clips or None


def packed_s(config: JsonObject) -> float | None:
    """Return the seconds of the windows that utterances were packed to for training; None where they were not."""
    packing = config.get("packing")
    seconds = packing.get("window_s") if isinstance(packing, dict) else None
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None
