"""Augmentation of clips, new in each epoch: speed, noise, telephone, gain, and masks over the features.

Every draw depends on (seed, utterance id, epoch) and the configuration alone: not on order, batch, worker or machine.
A resumed run therefore goes on with the draws that the interrupted one would have made, and a rerun repeats them all.
Each effect has its own stream of draws, so that switching one on leaves the others as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from asr.audio.decode import SAMPLE_RATE
from asr.config import Section
from asr.transcript import FeatureArray
from train.augmentation import noise, telephone
from train.augmentation.noise import Noise
from train.augmentation.resample import resample
from train.augmentation.telephone import Telephone

MEL_BINS = 80  # of the smaller checkpoints; large-v3 has 128


class SpeedPerturbation(Section):
    """Clips played faster or slower; pitch changes along, as in Kaldi's speed perturbation (Ko et al. 2015)."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips for which a factor is drawn."""
    factors: tuple[float, ...] = Field((0.9, 1.0, 1.1), min_length=1)
    """Drawn evenly. 1.1 is faster: a clip of 11 s becomes 10 s long."""

    @field_validator("factors")
    @classmethod
    def _hearable(cls, factors: tuple[float, ...]) -> tuple[float, ...]:
        for factor in factors:
            if not 0.5 <= factor <= 2.0:
                raise ValueError(f"{factor:g} is not between 0.5 and 2")
        return factors


class Gain(Section):
    """Clips made louder or softer."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips."""
    min_db: float = Field(-10.0, ge=-60, le=60)
    """Softest."""
    max_db: float = Field(6.0, ge=-60, le=60)
    """Loudest. What goes past full scale is clipped, as in an overdriven recording."""

    @model_validator(mode="after")
    def _order(self) -> Gain:
        if self.min_db > self.max_db:
            raise ValueError(f"min_db={self.min_db:g} is over max_db={self.max_db:g}")
        return self


class Spec(Section):
    """SpecAugment (Park et al. 2019): bands and stretches of the log-mel features replaced by their mean.

    A network of raw waveforms hides as much, on average, of what its first layers make of all clips.
    """

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips."""
    frequency_masks: int = Field(2, ge=0)
    """Bands in each clip."""
    max_frequency_bins: int = Field(27, ge=1)
    """Widest band; the width is drawn evenly from 0 to this."""
    time_masks: int = Field(2, ge=0)
    """Stretches in each clip."""
    max_time_frames: int = Field(100, ge=1)
    """Longest stretch in frames of 10 ms; the length is drawn evenly from 0 to this."""
    max_time_share: float = Field(0.2, gt=0, lt=1)
    """All stretches of a clip together hide no more than this share of it, so that short clips keep their words."""

    @property
    def time_share(self) -> float:
        """Share of its frames that is hidden on average of a clip so short that ``max_time_share`` bounds it."""
        return self.probability * self.max_time_share / 2 if self.time_masks else 0.0

    @property
    def frequency_share(self) -> float:
        """Share of the smaller checkpoints' mel bins that is hidden on average."""
        return self.probability * self.frequency_masks * self.band_share

    @property
    def band_share(self) -> float:
        """Share of them that a band has on average."""
        return self.max_frequency_bins / 2 / MEL_BINS

    @model_validator(mode="after")
    def _something_is_left(self) -> Spec:
        widest = self.frequency_masks * self.max_frequency_bins
        if widest >= MEL_BINS:
            raise ValueError(
                f"frequency_masks={self.frequency_masks} of max_frequency_bins={self.max_frequency_bins} may hide all "
                f"of the {MEL_BINS} mel bins"
            )
        return self


class Augmentation(Section):
    """Effects on training clips, in this order: speed, noise, telephone, gain, masks. All of it is off by default:
    set an effect's probability."""

    speed: SpeedPerturbation = SpeedPerturbation()
    noise: Noise = Noise()
    telephone: Telephone = Telephone()
    gain: Gain = Gain()
    spec: Spec = Spec()


def require(config: Augmentation) -> None:
    """Raise UserError for what would fail in the middle of a run: noise that cannot be read, a missing codec."""
    noise.require(config.noise)
    telephone.require(config.telephone)


def speeds(ids: Sequence[str], config: Augmentation, seed: int, epoch: int) -> NDArray[np.float64]:
    """Return the factor by which ``augment`` plays each utterance: float64 [ids], 1.0 where it leaves the speed.

    A clip of n samples becomes round(n / factor) samples long. Costs about 1 µs an id, most of it for its hash (ten
    million ids: 5 to 10 s and 400 MB), and nothing where speed is off.
    """
    if not config.speed.probability:
        return np.ones(len(ids))
    share = _uniform(_keys(ids), seed, epoch) / config.speed.probability
    factors = np.array(config.speed.factors)
    drawn = factors[np.minimum(share * len(factors), len(factors) - 1).astype(np.intp)]
    return np.where(share < 1.0, drawn, 1.0)


def augment(waveform: NDArray[np.float32], id: str, config: Augmentation, seed: int, epoch: int) -> NDArray[np.float32]:
    """Return a clip (float32 [samples], 16 kHz, nominally -1..1) as training gets it in this epoch.

    float32 [round(samples / speed)]. After any effect the result is clipped to -1..1, and a telephone line clips what
    enters it, noise included; without an effect it is the same array. UserError where no noise file can be read.
    """
    augmented = waveform
    speed = float(speeds([id], config, seed, epoch)[0])
    if speed != 1.0:
        augmented = resample(augmented, round(SAMPLE_RATE * speed), SAMPLE_RATE, round(len(augmented) / speed))
    if rng := _happens(config.noise.probability, "noise", id, seed, epoch):
        augmented = noise.with_noise(augmented, config.noise, rng)
    if rng := _happens(config.telephone.probability, "telephone", id, seed, epoch):
        codecs = config.telephone.codecs
        augmented = telephone.through_telephone(augmented, codecs[rng.integers(len(codecs))])
    if rng := _happens(config.gain.probability, "gain", id, seed, epoch):
        augmented = augmented * np.float32(10 ** (rng.uniform(config.gain.min_db, config.gain.max_db) / 20))
    return waveform if augmented is waveform else np.clip(augmented, -1.0, 1.0)


def mask(features: FeatureArray, id: str, config: Augmentation, seed: int, epoch: int) -> FeatureArray:
    """Return spectra [bins, frames] with this epoch's masks; the array given is not changed."""
    rng = _happens(config.spec.probability, "spec", id, seed, epoch)
    if rng is None:
        return features
    spec = config.spec
    bins, frames = features.shape
    masked = features.copy()
    mean = features.mean(dtype=np.float64)
    for _ in range(spec.frequency_masks):
        width, start = _stretch(rng, min(spec.max_frequency_bins, bins), bins)
        masked[start : start + width] = mean
    longest = int(spec.max_time_share * frames / max(spec.time_masks, 1))
    for _ in range(spec.time_masks):
        width, start = _stretch(rng, min(spec.max_time_frames, longest), frames)
        masked[:, start : start + width] = mean
    return masked


def _stretch(rng: np.random.Generator, widest: int, length: int) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    return width, int(rng.integers(length - width + 1))


def _happens(probability: float, effect: str, id: str, seed: int, epoch: int) -> np.random.Generator | None:
    """Return an effect's stream of draws for one clip in one epoch, or None where the clip is left out."""
    if not probability:
        return None
    key = hashlib.blake2b(f"{effect}\0{seed}\0{epoch}\0{id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    rng = np.random.Generator(np.random.Philox(key=np.frombuffer(key, np.uint64)))
    return rng if rng.random() < probability else None


def _keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id in ids)
    return np.fromiter(digests, "S8", len(ids)).view(np.uint64)


def _uniform(keys: NDArray[np.uint64], seed: int, epoch: int) -> NDArray[np.float64]:
    """Return float64 in [0, 1) for each 64-bit key, by SplitMix64's finaliser (Steele et al. 2014)."""
    draw = hashlib.blake2b(f"speed\0{seed}\0{epoch}".encode(), digest_size=8).digest()
    mixed: NDArray[np.uint64] = keys ^ np.frombuffer(draw, np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return cast(NDArray[np.float64], ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53)
