"""Regularisation of a network in training: the share of its layers, and of what they hear, that a step does without."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regularisation:
    """Parts that a network leaves out of each training step at random; by default none.

    The masks are for networks of raw waveforms, in which nobody else can hide anything of a spectrum (SpecAugment):
    those of spectrograms are given masked ones. Their draws are numpy's, whose state a checkpoint holds.

    layerdrop      probability of each layer to be left out
    time_share     share of a clip's positions that is hidden on average
    stretch_s      longest stretch of them
    feature_share  share of the features that is hidden on average, at all positions of a clip
    band_share     share of them that is hidden together
    """

    layerdrop: float = 0.0
    time_share: float = 0.0
    stretch_s: float = 0.0
    feature_share: float = 0.0
    band_share: float = 0.0
