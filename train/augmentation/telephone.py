"""Speech as a telephone line delivers it: 8 kHz, through the codec of a landline or of a mobile network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr.audio.decode import SAMPLE_RATE
from asr.config import Section
from asr.errors import UserError
from train.augmentation.resample import fitted, resample

Codec = Literal["mulaw", "alaw", "amr_nb", "gsm"]

LINE_RATE = 8_000
FRAME = 160  # 20 ms: what AMR and GSM code at once

# codec -> FFmpeg's encoder, its decoder, bits per second where there is a choice
_CODECS: dict[Codec, tuple[str, str, int | None]] = {
    "mulaw": ("pcm_mulaw", "pcm_mulaw", None),
    "alaw": ("pcm_alaw", "pcm_alaw", None),
    "amr_nb": ("libopencore_amrnb", "amrnb", 12_200),
    "gsm": ("libgsm", "gsm", None),
}

# Samples by which the decoded speech comes later than what went in: for AMR, whose linear prediction looks 5 ms ahead
# (3GPP TS 26.090, 5.2.1), the median cross-correlation over 40 prompts.
_DELAY: dict[Codec, int] = {"amr_nb": 38}


class Telephone(Section):
    """Clips as they sound over a telephone. Nothing is left above 4 kHz."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips."""
    codecs: tuple[Codec, ...] = Field(("mulaw", "alaw", "amr_nb"), min_length=1)
    """One of them is drawn for each clip: mulaw and alaw (landlines: G.711), amr_nb (mobile networks, GSM's included),
    gsm (GSM's first codec, full rate, where the machine's FFmpeg can encode it; PyAV's own build cannot)."""


def require(config: Telephone) -> None:
    """Raise UserError where this machine's FFmpeg lacks one of the codecs."""
    if not config.probability:
        return
    for codec in config.codecs:
        if codec not in available():
            raise UserError(
                f"augment.telephone.codecs: the FFmpeg inside PyAV {av.__version__} cannot encode {codec}",
                "use amr_nb, which GSM networks use too" if codec == "gsm" else f"leave {codec} out",
            )


def available() -> list[Codec]:
    """Return the codecs that this machine's FFmpeg can encode and decode."""
    return [codec for codec, (encoder, decoder, _) in _CODECS.items() if _has(encoder, "w") and _has(decoder, "r")]


def through_telephone(waveform: NDArray[np.float32], codec: Codec) -> NDArray[np.float32]:
    """Return ``waveform`` (float32 [samples], 16 kHz, clipped to -1..1) as float32 of the same shape after the line."""
    line = resample(waveform, SAMPLE_RATE, LINE_RATE, -(-len(waveform) // 2))
    samples = np.clip(np.round(line * 32768.0), -32768, 32767).astype(np.int16)
    received = np.concatenate(list(_coded(samples, codec)))[_DELAY.get(codec, 0) :]
    return resample(fitted(received, len(line)) / np.float32(32768.0), LINE_RATE, SAMPLE_RATE, len(waveform))


def _coded(samples: NDArray[np.int16], codec: Codec) -> Iterator[NDArray[np.float32]]:
    """Yield what a decoder makes of the encoder's packets, as float32 on the scale of int16."""
    encoder_name, decoder_name, bit_rate = _CODECS[codec]
    encoder, decoder = _context(encoder_name, "w"), _context(decoder_name, "r")
    if bit_rate:
        encoder.bit_rate = bit_rate
    for packet in [*_packets(encoder, samples), None]:
        for frame in decoder.decode(packet):
            block = frame.to_ndarray()[0]
            yield block.astype(np.float32) * (1.0 if block.dtype == np.int16 else 32768.0)


def _packets(encoder: av.AudioCodecContext, samples: NDArray[np.int16]) -> Iterator[av.Packet]:
    # Two frames more than there are: the last words would otherwise stay inside a coder that looks ahead.
    silence = np.zeros(2 * FRAME + -len(samples) % FRAME, np.int16)
    padded = np.concatenate([samples, silence])
    for start in range(0, len(padded), FRAME):
        frame = av.AudioFrame.from_ndarray(padded[None, start : start + FRAME], format="s16", layout="mono")
        frame.sample_rate = LINE_RATE
        frame.pts = start
        yield from encoder.encode(frame)
    yield from encoder.encode(None)


def _context(name: str, mode: Literal["r", "w"]) -> av.AudioCodecContext:
    context: av.AudioCodecContext = av.CodecContext.create(name, mode)
    context.sample_rate, context.layout = LINE_RATE, "mono"
    if mode == "w":
        context.format = "s16"
    return context


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True
