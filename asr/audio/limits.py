"""Limits on what one piece of audio may cost."""

from __future__ import annotations

from pydantic import Field

from asr.config import Section


class AudioLimits(Section):
    """Limits on what one piece of audio may cost. All hold while decoding, so a forged header cannot get past them."""

    max_bytes: int = Field(100 * 1024 * 1024, gt=0)
    """Size of the file or upload as it comes."""
    max_audio_s: float = Field(3600.0, gt=0)
    """Length of the decoded audio, or of the stretch asked for."""
    min_audio_s: float = Field(0.025, ge=0)
    """Shorter is no speech; the default is one analysis window of the log-mel spectrogram (400 samples)."""
    max_source_samples: int = Field(1_000_000_000, gt=0)
    """Samples before resampling, all channels together: an hour of 96 kHz stereo is 691 million."""
    max_damaged_share: float = Field(0.0, ge=0, le=1)
    """Share of the audio that may be damaged: silence stands in its place. 0: any damage refuses the file."""


DEFAULT_LIMITS = AudioLimits()
