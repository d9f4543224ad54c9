"""Sound in which nobody speaks, the same each time: a transcript of it with a word in it is made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from asr.audio.decode import SAMPLE_RATE

LEVELS_DBFS = (-70.0, -50.0, -35.0, -23.0, -12.0)


def noises(seconds: float, levels: Sequence[float] = LEVELS_DBFS) -> dict[str, np.ndarray]:
    """Return each kind of noise at each of these levels [samples], 16 kHz, clipped to -1..1, and digital silence."""
    made = {"silence": np.zeros(round(seconds * SAMPLE_RATE), np.float32)}
    for kind, make in KINDS.items():
        noise = make(_times(seconds))
        noise /= np.sqrt(np.mean(noise**2))
        for level in levels:
            made[f"{kind} at {level:g} dB"] = np.clip(noise * 10 ** (level / 20), -1.0, 1.0).astype(np.float32)
    return made


def _times(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _coloured(times: np.ndarray, exponent: float, seed: int) -> np.ndarray:
    """Noise whose power falls with frequency to the ``exponent``: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(times)))
    hz = np.fft.rfftfreq(len(times), 1 / SAMPLE_RATE)
    hz[0] = hz[1]
    return np.fft.irfft(spectrum * hz ** (-exponent / 2), len(times))


def _hum(times: np.ndarray, hz: float) -> np.ndarray:
    return np.sum([np.sin(2 * np.pi * hz * k * times) / k for k in (1, 2, 3, 5, 7)], axis=0)


def _struck(key: int, seconds: float) -> np.ndarray:
    """A note of a plucked or struck string; ``key`` as in MIDI."""
    times, hz = _times(seconds), 440.0 * 2 ** ((key - 69) / 12)
    return np.sum([np.sin(2 * np.pi * hz * k * times) / k for k in range(1, 7)], axis=0) * np.exp(-2 * times)


def _tune(times: np.ndarray, bars: list[tuple[int, ...]], seconds: float) -> np.ndarray:
    """Chords (keys struck together), each ``seconds`` long, over and over."""
    once = np.concatenate([np.sum([_struck(key, seconds) for key in bar], axis=0) for bar in bars])
    return np.resize(once, len(times))


def _clicks(times: np.ndarray) -> np.ndarray:
    noise = np.zeros(len(times))
    noise[np.random.default_rng(6).integers(0, len(times), max(len(times) // 5000, 1))] = 1.0
    return noise


def _knocks(times: np.ndarray) -> np.ndarray:
    knock = np.random.default_rng(7).standard_normal(2000) * np.exp(-np.arange(2000) / 150)
    return np.convolve(_clicks(times), knock)[: len(times)]


def _breathing(times: np.ndarray) -> np.ndarray:
    return _coloured(times, 1.0, 8) * np.clip(np.sin(2 * np.pi * 0.3 * times + 0.5), 0.0, None) ** 2


def _drums(times: np.ndarray) -> np.ndarray:
    beat = times % 0.25
    hit = np.where(times % 0.5 < 0.25, np.sin(2 * np.pi * 60 * beat), _coloured(times, 0.0, 9))
    return hit * np.exp(-20 * beat)


def _keypad(times: np.ndarray) -> np.ndarray:
    """Keys of a telephone, pressed at random, five a second."""
    press = _times(0.12)
    random, noise = np.random.default_rng(10), np.zeros(len(times))
    for start in range(0, len(times) - len(press), SAMPLE_RATE // 5):
        low, high = random.choice([697, 770, 852, 941]), random.choice([1209, 1336, 1477])
        noise[start : start + len(press)] = np.sin(2 * np.pi * low * press) + np.sin(2 * np.pi * high * press)
    return noise


def _applause(times: np.ndarray) -> np.ndarray:
    """Sixty claps a second, each of its own loudness."""
    random = np.random.default_rng(11)
    claps = np.zeros(len(times))
    claps[random.integers(0, len(times), max(len(times) * 60 // SAMPLE_RATE, 1))] = random.uniform(0.3, 1.0)
    clap = random.standard_normal(320) * np.exp(-np.arange(320) / 64)
    return np.convolve(claps, clap)[: len(times)]


def _melody(times: np.ndarray) -> np.ndarray:
    """A bowed string with eight harmonics and vibrato: of what is no voice, the nearest to one."""
    note = _times(0.4)
    loudness = np.minimum(1.0, np.minimum(note / 0.03, (note[-1] - note) / 0.05))
    notes = []
    for key in (67, 69, 71, 72, 74, 72, 71, 69, 67, 64, 60, 62):
        phase = 2 * np.pi * 440.0 * 2 ** ((key - 69) / 12) * note + 1.5 * np.sin(2 * np.pi * 5.5 * note)
        notes.append(loudness * np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0))
    return np.resize(np.concatenate(notes), len(times))


def _organ(times: np.ndarray) -> np.ndarray:
    chord = [np.sin(2 * np.pi * hz * k * times) / k for hz in (130.8, 164.8, 196.0, 261.6) for k in (1, 2, 3, 4, 6, 8)]
    return np.sum(chord, axis=0) * (1 + 0.2 * np.sin(2 * np.pi * 6 * times))


def _whistle(times: np.ndarray) -> np.ndarray:
    hz = 1500 + 400 * np.sin(2 * np.pi * 0.7 * times)
    return np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE) * (np.sin(np.pi * times) > -0.5)


def _engine(times: np.ndarray) -> np.ndarray:
    strokes = np.sum([np.sin(2 * np.pi * 28 * k * times + k) / k**0.5 for k in range(1, 30)], axis=0)
    return strokes * (1 + 0.3 * np.sin(2 * np.pi * 14 * times))


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white noise": lambda times: _coloured(times, 0.0, 1),
    "pink noise": lambda times: _coloured(times, 1.0, 2),
    "brown noise": lambda times: _coloured(times, 2.0, 3),
    "mains hum 50 Hz": lambda times: _hum(times, 50.0),
    "mains hum 60 Hz": lambda times: _hum(times, 60.0),
    "dial tone": lambda times: np.sin(2 * np.pi * 350 * times) + np.sin(2 * np.pi * 440 * times),
    "ringing": lambda times: np.sin(2 * np.pi * 425 * times) * (times % 5 < 1),
    "siren": lambda times: np.sin(2 * np.pi * 700 * times + 600 * np.sin(np.pi * times)),
    "chords": lambda times: _tune(times, [(60, 64, 67), (57, 60, 64), (53, 57, 60), (55, 59, 62)], 1.0),
    "arpeggio": lambda times: _tune(times, [(48,), (52,), (55,), (60,), (64,), (67,), (72,)], 0.15),
    "drums": _drums,
    "clicks": _clicks,
    "knocks": _knocks,
    "breathing": _breathing,
    "keypad": _keypad,
    "applause": _applause,
    "melody": _melody,
    "organ": _organ,
    "whistle": _whistle,
    "engine": _engine,
}
