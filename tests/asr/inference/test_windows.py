from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.audio.vad
import asr.inference.windows
from asr.audio.decode import SAMPLE_RATE, decode
from asr.audio.vad import speech
from asr.data.sources.prompts import fetch, utterances
from asr.inference.recording import Window, join
from asr.inference.windows import MARGIN_S, MAX_PAUSE_S, MAX_WINDOW_S, cut, split_at_quiet, windows
from asr.io.cache import cache_root
from asr.transcript import Transcript, Word
from asr.utterance import Utterance
from tests.asr.noises import LEVELS_DBFS, noises

NOISE = np.random.default_rng(0).standard_normal(40 * SAMPLE_RATE).astype(np.float32) * 0.1
LONGEST = round(MAX_WINDOW_S * SAMPLE_RATE)


@dataclass(frozen=True)
class Place:
    """A prompt in a long recording: the samples at which its voice begins and ends."""

    start: int
    end: int


@dataclass(frozen=True)
class Long:
    """A long recording, where in it the prompts are, its windows, and the last prompt, after which come 5 s."""

    waveform: np.ndarray
    places: list[Place]
    windows: list[Window]
    last: np.ndarray


def voiced(waveform: np.ndarray) -> Place:
    """Where a clean prompt is within 35 dB of its loudest 10 ms, which leaves out breath and hiss at its edges."""
    frames = waveform[: len(waveform) // 160 * 160].reshape(-1, 160)
    levels = np.sqrt(np.square(frames).mean(axis=1))
    loud = np.flatnonzero(levels > levels.max() * 10 ** (-35 / 20))
    return Place(int(loud[0]) * 160, (int(loud[-1]) + 1) * 160)


def recorded(prompts: list[np.ndarray], pauses_s: list[float]) -> tuple[np.ndarray, list[Place]]:
    """The prompts one after the other over a quiet line, each after its pause."""
    samples = sum(map(len, prompts)) + round((sum(pauses_s) + 5.0) * SAMPLE_RATE)
    waveform = np.resize(NOISE * np.float32(0.003), samples)
    places, at = [], 0
    for prompt, pause_s in zip(prompts, pauses_s, strict=True):
        at += round(pause_s * SAMPLE_RATE)
        voice = voiced(prompt)
        places.append(Place(at + voice.start, at + voice.end))
        waveform[at : at + len(prompt)] += prompt
        at += len(prompt)
    return waveform, places


@pytest.fixture(scope="module")
def prompts(english_clips: list[Utterance]) -> list[np.ndarray]:
    return [decode(clip.audio) for clip in english_clips]


@pytest.fixture(scope="module", params=[600, pytest.param(7200, marks=pytest.mark.long)], ids=["minutes", "two hours"])
def long(prompts: list[np.ndarray], request: pytest.FixtureRequest) -> Long:
    """Ten minutes or two hours of prompts, with pauses of one second up to an eighth of it."""
    random = np.random.default_rng(4)
    spoken, pauses_s, total_s = [], [], 0.0
    while total_s < request.param:
        spoken.append(prompts[random.integers(len(prompts))])
        pauses_s.append(float(random.choice([1.0, 1.5, 2.0, 4.0, 15.0, 60.0], p=[0.2, 0.2, 0.2, 0.2, 0.18, 0.02])))
        total_s += len(spoken[-1]) / SAMPLE_RATE + pauses_s[-1]
    pauses_s[3] += request.param / 8
    waveform, places = recorded(spoken, pauses_s)
    return Long(waveform, places, windows(waveform), spoken[-1])


def check(found: list[Window], samples: int) -> None:
    """What holds of the windows of any recording."""
    edges = [edge for window in found for edge in (window.start, window.end)]
    assert edges == sorted(edges)
    assert all(0 <= window.start < window.end <= samples for window in found)
    assert all(window.end - window.start <= LONGEST for window in found)


def given_speech(monkeypatch: pytest.MonkeyPatch, *stretches_s: tuple[float, float]) -> list[tuple[float, float]]:
    """The windows, in seconds, of a noisy recording in which speech is found there."""
    samples = round((stretches_s[-1][1] + 1) * SAMPLE_RATE)
    stretches = [(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in stretches_s]
    monkeypatch.setattr(asr.inference.windows, "heard", lambda *_: stretches)
    found = windows(np.resize(NOISE, samples))
    check(found, samples)
    return [(window.start_s, window.end_s) for window in found]


@pytest.fixture(scope="module")
def italian_prompts() -> dict[str, np.ndarray]:
    good, _ = utterances("it", fetch("it", cache_root()))
    return {clip.id: decode(str(clip.audio), container="g722") for clip in good}


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1.0, 10 ** (-30 / 20)])
def test_no_prompt_is_without_a_window(italian_prompts: dict[str, np.ndarray], gain: float) -> None:
    unheard = []
    for name, prompt in italian_prompts.items():
        waveform = prompt * np.float32(gain)
        found = windows(waveform)
        check(found, len(waveform))
        unheard += [] if found else [name]
    assert len(italian_prompts) > 500
    assert unheard == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "levels"),
    [
        (4.0, LEVELS_DBFS),
        (MAX_WINDOW_S + 1, LEVELS_DBFS[2:3]),
        pytest.param(45.0, LEVELS_DBFS, marks=pytest.mark.long),
    ],
)
def test_no_window_where_nobody_speaks(seconds: float, levels: tuple[float, ...]) -> None:
    assert [kind for kind, noise in noises(seconds, levels).items() if windows(noise)] == []


@pytest.mark.medium
def test_a_short_clip_is_one_window(prompts: list[np.ndarray]) -> None:
    for prompt in prompts:
        (window,) = windows(prompt)
        voice = voiced(prompt)
        assert window.start <= voice.start and voice.end <= window.end


@pytest.mark.medium
def test_every_prompt_of_a_long_recording_lies_in_one_window(long: Long) -> None:
    found, samples = long.windows, len(long.waveform)
    check(found, samples)
    assert len(long.places) > samples / SAMPLE_RATE / 20
    assert [p for p in long.places if not any(w.start <= p.start and p.end <= w.end for w in found)] == []
    assert sum(window.end - window.start for window in found) < 0.7 * samples  # the long pauses are left out


@pytest.mark.medium
def test_a_time_at_the_end_of_a_long_recording_is_true(long: Long) -> None:
    window, samples = long.windows[-1], len(long.waveform)
    heard = long.waveform[window.start : window.end]
    matches = np.correlate(heard, long.last[8000:16000], "valid")  # half a second out of its middle
    at_s = int(matches.argmax()) / SAMPLE_RATE
    transcript = Transcript("word", (1,), "en", words=(Word(at_s, at_s + 0.5, " word", 1.0),))
    (word,) = join([window], [transcript], samples / SAMPLE_RATE).words
    true_s = (samples - 5 * SAMPLE_RATE - len(long.last) + 8000) / SAMPLE_RATE
    assert word.start_s > 0.95 * samples / SAMPLE_RATE
    assert abs(word.start_s - true_s) < 0.05


@pytest.mark.medium
def test_no_word_of_speech_without_a_pause_is_lost_or_heard_twice(prompts: list[np.ndarray]) -> None:
    waveform, places = recorded(prompts, [0.05] * len(prompts))
    found = windows(waveform)
    check(found, len(waveform))
    assert len(found) >= len(waveform) // LONGEST
    sent = np.zeros(len(waveform), np.int8)
    for window in found:
        sent[window.start : window.end] += 1
    for place in places:
        assert (sent[place.start : place.end] == 1).all()
    level = np.sqrt(np.mean(waveform**2))
    for before, after in itertools.pairwise(found):
        if before.end == after.start:  # a cut, so in a pause, be it one of 50 ms
            assert np.sqrt(np.mean(waveform[before.end - 400 : before.end + 400] ** 2)) < 0.1 * level


def test_short_pauses_are_inside_a_window_and_long_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = given_speech(monkeypatch, (1, 3), (3 + MAX_PAUSE_S, 7), (7.1 + MAX_PAUSE_S, 12))
    assert found == [(1 - MARGIN_S, 7 + MARGIN_S), (7.1 + MAX_PAUSE_S - MARGIN_S, 12 + MARGIN_S)]


def test_a_window_ends_at_a_long_pause_near_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, end), (start, _) = given_speech(monkeypatch, (0, 10), (12, 24), (24.6, 26), (26.1, 28), (28.2, 40))
    assert (end, start) == (pytest.approx(24.3), pytest.approx(24.3))


def test_a_window_is_as_long_as_it_can_be_where_pauses_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    found = given_speech(monkeypatch, *[(second, second + 0.5) for second in range(100)])
    assert [end - start for start, end in found[:-1]] == [pytest.approx(29.0, abs=0.5)] * (len(found) - 1)


def test_speech_that_just_fits_is_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(given_speech(monkeypatch, (1, 30.2))) == 1
    assert len(given_speech(monkeypatch, (1, 30.3))) == 2


def test_long_speech_is_cut_and_its_rest_shares_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    (start, cut), rest = given_speech(monkeypatch, (2, 40), (41, 45))
    assert start == 2 - MARGIN_S and 26 < cut < 31.3
    assert rest == (cut, 45 + MARGIN_S)


@pytest.mark.medium
@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.04, 4.0), st.floats(0.04, 40.0)), min_size=1, max_size=12))
def test_all_speech_is_in_the_windows_and_once(spans: list[tuple[float, float]]) -> None:
    at, stretches = 0.0, []
    for pause, length in spans:
        stretches.append((at + pause, at + pause + length))
        at += pause + length
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = given_speech(monkeypatch, *stretches)
    sent = np.zeros(round((at + 1) * SAMPLE_RATE), np.int8)
    for start, end in found:
        sent[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] += 1
    assert sent.max() == 1
    for start, end in stretches:
        assert sent[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)].all()


def at_once(stretches: list[tuple[int, int]], waveform: np.ndarray, longest_s: float) -> list[Window]:
    """The windows as they are cut with all stretches at hand: what cutting one after the other must come to."""
    longest, limit = round((longest_s - 2 * MARGIN_S) * SAMPLE_RATE), MAX_PAUSE_S * SAMPLE_RATE
    chains: list[list[tuple[int, int]]] = []
    for stretch in stretches:
        if chains and stretch[0] - chains[-1][-1][1] <= limit:
            chains[-1].append(stretch)
        else:
            chains.append([stretch])
    parts = []
    for chain in chains:
        while chain[-1][1] - chain[0][0] > longest:
            first = chain[0][0]
            end, start = asr.inference.windows._best_pause(chain, first + longest, longest_s / 2)
            if start == end:
                piece = waveform[first : first + longest + 1]
                end = start = first + split_at_quiet(piece, longest / SAMPLE_RATE, longest_s / 6)[0][1]
            parts.append((first, end))
            chain = [(max(left, start), right) for left, right in chain if right > start]
        parts.append((chain[0][0], chain[-1][1]))
    margin = round(MARGIN_S * SAMPLE_RATE)
    middles = [(before[1] + after[0]) // 2 for before, after in itertools.pairwise(parts)]
    edges = zip(parts, [0, *middles], [*middles, len(waveform)], strict=False)
    return [Window(max(start - margin, left), min(end + margin, right)) for (start, end), left, right in edges]


@pytest.mark.medium
@settings(max_examples=100, deadline=None)
@given(
    spans=st.lists(st.tuples(st.floats(0.04, 4.0), st.floats(0.04, 40.0)), max_size=12),
    longest_s=st.sampled_from([5.0, 8.0, 20.0, 30.0]),
)
def test_one_after_the_other_the_windows_are_those_of_all_at_once(
    spans: list[tuple[float, float]], longest_s: float
) -> None:
    at, stretches = 0, []
    for pause, length in spans:
        start = at + round(pause * SAMPLE_RATE)
        at = start + round(length * SAMPLE_RATE)
        stretches.append((start, at))
    waveform = np.resize(NOISE, at + SAMPLE_RATE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(asr.inference.windows, "heard", lambda *_: iter(stretches))
        found = windows(waveform, longest_s=longest_s)
    assert found == at_once(stretches, waveform, longest_s)
    assert all(window.end - window.start <= longest_s * SAMPLE_RATE for window in found)


@pytest.mark.medium
@pytest.mark.parametrize("longest_s", [8.0, 30.0])
def test_of_speech_too(prompts: list[np.ndarray], longest_s: float) -> None:
    random = np.random.default_rng(7)
    waveform, _ = recorded(prompts * 3, random.choice([0.05, 0.5, 3.0], 3 * len(prompts)).tolist())
    assert windows(waveform, longest_s=longest_s) == at_once(speech(waveform), waveform, longest_s) != []


@pytest.mark.medium
def test_a_window_is_there_before_the_rest_is_judged(
    prompts: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform, _ = recorded(prompts * 8, [0.5] * 8 * len(prompts))
    assert len(waveform) > 3 * asr.audio.vad.BLOCK
    expected, judged = windows(waveform), list[int]()
    judge = asr.audio.vad._judged

    def counted(block: np.ndarray, state: asr.audio.vad.State) -> list[np.ndarray]:
        judged.append(len(block))
        return judge(block, state)

    monkeypatch.setattr(asr.audio.vad, "_judged", counted)
    waveform = waveform.copy()
    found = []
    for window in cut(waveform):
        if not found:
            assert sum(judged) < 3 * asr.audio.vad.BLOCK_FRAMES
        found.append(window)
        waveform[: window.end] = np.nan  # given back: what is read by mistake spoils everything
    assert found == expected


def test_short_audio_is_one_piece() -> None:
    assert split_at_quiet(NOISE[: 30 * SAMPLE_RATE]) == [(0, 30 * SAMPLE_RATE)]


def test_no_audio_is_no_piece() -> None:
    assert split_at_quiet(NOISE[:0]) == []


def test_the_cut_falls_into_the_pause() -> None:
    waveform = NOISE.copy()
    pause = slice(int(26.4 * SAMPLE_RATE), int(26.7 * SAMPLE_RATE))
    waveform[pause] *= 0.01
    (_, cut), _ = split_at_quiet(waveform)
    assert pause.start < cut < pause.stop


def test_a_gap_of_one_stop_consonant_is_no_pause() -> None:
    waveform = NOISE.copy()
    waveform[int(25.50 * SAMPLE_RATE) : int(25.53 * SAMPLE_RATE)] = 0.0
    waveform[int(28.00 * SAMPLE_RATE) : int(28.20 * SAMPLE_RATE)] *= 0.01
    (_, cut), _ = split_at_quiet(waveform)
    assert 28.0 < cut / SAMPLE_RATE < 28.2


def test_silence_makes_the_fewest_pieces() -> None:
    pieces = split_at_quiet(np.zeros(300 * SAMPLE_RATE, np.float32))
    assert len(pieces) == 11
    assert pieces[0][1] > 29.9 * SAMPLE_RATE


@settings(max_examples=50, deadline=None)
@given(
    samples=st.integers(0, 40 * SAMPLE_RATE),
    max_s=st.floats(0.5, 30.0),
    share=st.floats(0.01, 0.9),
    gain=st.sampled_from([0.0, 1.0]),
)
def test_nothing_is_lost_and_nothing_heard_twice(samples: int, max_s: float, share: float, gain: float) -> None:
    pieces = split_at_quiet(NOISE[:samples] * gain, max_s, max_s * share)
    assert [start for start, _ in pieces] == [0, *[end for _, end in pieces[:-1]]][: len(pieces)]
    assert sum(end - start for start, end in pieces) == samples
    assert all(0 < end - start <= round(max_s * SAMPLE_RATE) for start, end in pieces)


def test_the_search_must_lie_within_the_window() -> None:
    with pytest.raises(ValueError, match="search_s < max_s"):
        split_at_quiet(NOISE, max_s=5.0, search_s=5.0)


def test_speech_that_is_known_already_gives_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = [(16_000, 40 * SAMPLE_RATE - 16_000)]
    monkeypatch.setattr(asr.inference.windows, "heard", lambda *_: iter(spoken))
    expected = windows(NOISE)
    monkeypatch.setattr(asr.inference.windows, "heard", lambda *_: pytest.fail("it was looked for"))
    assert windows(NOISE, spoken=spoken) == expected != []
    assert windows(NOISE, spoken=[]) == []
