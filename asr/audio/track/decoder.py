"""Decoder of a track: FFmpeg's, replaced when a damaged packet has spoilt its state."""

from __future__ import annotations

import av

MAX_FRAME_SAMPLES = 1 << 22  # one forged ALAC frame would otherwise allocate 512 MB

# A damaged AAC packet may redefine the channels: what follows is then silence, and no error tells it.
FORGETS_CHANNELS = frozenset({"aac"})


class CodecDecoder:
    """Decodes the packets of one track in their order."""

    def __init__(self, context: av.AudioCodecContext) -> None:
        self._context = context
        context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
        context.thread_count = 1  # WavPack would start some, which a confined process must not

    def decode(self, packet: av.Packet) -> list[av.AudioFrame]:
        """Return the frames that are complete with ``packet``. Raises av.FFmpegError where it cannot be decoded."""
        try:
            return list(self._context.decode(packet))
        except av.FFmpegError:
            self._begin_anew()
            raise

    def _begin_anew(self) -> None:
        # Frames of ADTS and LATM say what they are themselves, so that such a track has no header of its own.
        old = self._context
        if old.name in FORGETS_CHANNELS and old.extradata:
            self._context = av.CodecContext.create(old.name, "r")
            self._context.extradata = old.extradata
            self._context.options = old.options
