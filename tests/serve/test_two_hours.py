"""A long recording, in the formats that people upload: no word is lost, and the last one's time is true.

Three minutes of it hold the same passages, but for fewer words in each, as the two hours of ``make test-long``.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

import av
import numpy as np
import pytest
import srt
import webvtt

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode, encode_flac
from asr.inference.engine import Engine
from asr.inference.formats import as_srt, as_text, as_verbose_json, as_vtt
from asr.inference.pipeline import DecodingOptions
from asr.inference.recording import Recording
from asr.inference.transcribe import transcribe_recording
from asr.scoring.error_rates import score
from asr.transcript import Word
from asr.utterance import Utterance

LIMITS = AudioLimits(max_audio_s=7260)
ASKED = DecodingOptions("en", timestamps=True, words=True)
# With its bit rate, and how to encode at once what would take half a minute.
CODECS = {
    "flac": ("flac", 0, "0"),
    "mp3": ("libmp3lame", 64_000, "5"),
    "ogg": ("libopus", 96_000, "0"),
}
TRUE_S = 0.05
OFFSET_S = 0.02  # a step of the alignment
PAUSE_S = 0.4
# Samples that voice activity looks at together. Passages begin where such a step does, in the recording and alone:
# their windows begin alike then, and what differs is the two hours before.
STEP = 512
QUIET_S = 160 * STEP / SAMPLE_RATE  # around a passage that is heard alone


@dataclass(frozen=True)
class Script:
    """How long a recording is, and which clips are its first passage: longer than a window, which has to be cut."""

    length_s: int
    beginning: slice

    def passages(self, clips: Sequence[Utterance]) -> list[Sequence[Utterance]]:
        """Return what is said at the beginning, in the middle and at the end; the last two are one window each."""
        return [clips[self.beginning], clips[18:21], clips[21:24]]


SHORT = Script(180, slice(3, 10))  # half a minute without a long pause, whose words need no second attempt
TWO_HOURS = Script(7200, slice(0, 18))  # a minute and a half


def passage(clips: Sequence[Utterance]) -> np.ndarray:
    """Return prompts [samples], one after the other."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
    return np.concatenate([part for clip in clips for part in (decode(str(clip.audio)), pause)])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(SHORT, id="three minutes"),
        pytest.param(TWO_HOURS, id="two hours", marks=pytest.mark.long),
    ],
)
def script(request: pytest.FixtureRequest) -> Script:
    found: Script = request.param
    return found


@pytest.fixture(scope="module")
def places(script: Script, english_clips: list[Utterance]) -> dict[int, np.ndarray]:
    """Where which passage begins, in samples; the last ends three seconds before the recording does."""
    beginning, middle, end = map(passage, script.passages(english_clips))
    last = (script.length_s - 3) * SAMPLE_RATE - len(end)
    found = {1234: beginning, script.length_s // 2 * SAMPLE_RATE: middle, last - last % STEP: end}
    assert len(beginning) > 30 * SAMPLE_RATE
    return found


@pytest.fixture(scope="module")
def film(script: Script, places: dict[int, np.ndarray]) -> np.ndarray:
    """The recording [samples]: the passages in the faint noise of a microphone."""
    hiss = np.random.default_rng(0).normal(0.0, 1e-4, 60 * SAMPLE_RATE).astype(np.float32)
    waveform = np.resize(hiss, script.length_s * SAMPLE_RATE)
    for at, spoken in places.items():
        waveform[at : at + len(spoken)] += spoken
    return waveform


@pytest.fixture(scope="module")
def expected(engine: Engine, places: dict[int, np.ndarray]) -> list[list[Word]]:
    """The words of the passages of one window each: what comes before them cannot change their words."""
    return [alone(engine, spoken, at) for at, spoken in list(places.items())[1:]]


def encoded(waveform: np.ndarray, container: str) -> bytes:
    """Return samples, 16 kHz, as a file of a format, with whatever delay its encoder puts before them."""
    codec, bit_rate, effort = CODECS[container]
    rate = 48_000 if codec == "libopus" else SAMPLE_RATE
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as media:
        stream = media.add_stream(codec, rate=rate, layout="mono", options={"compression_level": effort})
        if bit_rate:
            stream.bit_rate = bit_rate
        resampler = av.AudioResampler(stream.format.name, "mono", rate, stream.codec_context.frame_size or 4096)
        pcm = (np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
        for start in range(0, len(pcm), SAMPLE_RATE):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + SAMPLE_RATE], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            for ready in resampler.resample(frame):
                media.mux(stream.encode(ready))
        for ready in resampler.resample(None):
            media.mux(stream.encode(ready))
        media.mux(stream.encode(None))
    return buffer.getvalue()


def alone(engine: Engine, spoken: np.ndarray, at: int) -> list[Word]:
    """Return the words of a passage that is heard on its own, with the times that they have behind ``at`` samples."""
    silence = np.random.default_rng(1).normal(0.0, 1e-4, round(QUIET_S * SAMPLE_RATE)).astype(np.float32)
    heard = transcribe_recording(engine, encode_flac(np.concatenate([silence, spoken, silence])), ASKED, LIMITS)
    shift_s = at / SAMPLE_RATE - QUIET_S
    return [Word(one.start_s + shift_s, one.end_s + shift_s, one.text, one.probability) for one in heard.words]


def words_of(text: str) -> list[str]:
    return text.split()


@pytest.fixture(scope="module", params=CODECS)
def recording(request: pytest.FixtureRequest, engine: Engine, film: np.ndarray) -> Recording:
    """What is heard in the recording, in one of the formats."""
    return transcribe_recording(engine, encoded(film, request.param), ASKED, LIMITS)


@pytest.mark.slow
def test_the_last_words_have_their_true_times(script: Script, recording: Recording, expected: list[list[Word]]) -> None:
    assert recording.duration_s == pytest.approx(script.length_s, abs=0.1)
    for words in expected:
        first, last = words[0].start_s - 1.0, words[-1].end_s + 1.0
        heard = [word for word in recording.words if first < word.start_s < last]
        assert [word.text for word in heard] == [word.text for word in words] != []
        late_s = [one.start_s - other.start_s for one, other in zip(heard, words, strict=True)]
        late_s += [one.end_s - other.end_s for one, other in zip(heard, words, strict=True)]
        # Other noise, and a codec's, moves some edges of words in the alignment itself; an offset would move them all.
        assert abs(np.median(late_s)) <= OFFSET_S and np.mean(np.abs(late_s) <= TRUE_S) >= 0.9, late_s


@pytest.mark.slow
def test_no_word_is_lost_in_any_format(script: Script, recording: Recording, english_clips: list[Utterance]) -> None:
    said = " ".join(clip.text for clips in script.passages(english_clips) for clip in clips)
    counts = score([said], [recording.text], "normalised", "en")
    assert counts.rate < 0.15, recording.text  # a window that is lost would be a sixth of them, or a fourth
    spoken = words_of(recording.text)
    verbose = as_verbose_json(recording, granularities=("segment", "word"))
    assert words_of(as_text(recording)) == words_of(verbose["text"]) == spoken
    assert words_of("".join(segment["text"] for segment in verbose["segments"])) == spoken
    assert [word["word"] for word in verbose["words"]] == spoken
    assert words_of(" ".join(cue.content for cue in srt.parse(as_srt(recording)))) == spoken
    cues = webvtt.from_buffer(StringIO(as_vtt(recording)))
    assert words_of(" ".join(html.unescape(cue.text) for cue in cues)) == spoken
