from __future__ import annotations

import io

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode
from asr.audio.formats.ogg import codec_changes
from asr.errors import DataError
from tests.asr.sounds import LENIENT, encoded, heard, loud, tone

CODECS = ["libopus", "flac"]  # the others have no encoder in PyAV


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Three seconds in each codec, of which the second one is a tone."""
    folder = tmp_path_factory.mktemp("ogg")
    made = {}
    for codec in CODECS:
        waveform = np.zeros(3 * 48_000, np.float32)
        waveform[48_000:96_000] = tone(1.0, 48_000)
        made[codec] = encoded(folder / codec, waveform, codec, "ogg").read_bytes()
    return made


@pytest.mark.medium
@pytest.mark.parametrize(
    "codecs",
    [("libopus", "flac"), ("flac", "libopus"), ("libopus", "flac", "libopus"), ("flac", "libopus", "libopus", "flac")],
)
def test_a_part_in_another_codec_was_dropped_without_a_word(parts: dict[str, bytes], codecs: tuple[str, ...]) -> None:
    joined = b"".join(parts[codec] for codec in codecs)
    waveform, report = heard(joined)
    assert not report.damaged_s and not report.warnings
    assert len(waveform) / SAMPLE_RATE == pytest.approx(3.0 * len(codecs), abs=0.05)
    expected = [time_s + 3.0 * number for number in range(len(codecs)) for time_s in (1.0, 2.0)]
    assert np.ravel(loud(waveform)) == pytest.approx(expected, abs=0.06)
    decode(joined)
    for start_s in (0.7, 2.6, 3.8, 4.5):
        cut = decode(joined, start_s=start_s, end_s=start_s + 0.9)
        there = waveform[round(start_s * SAMPLE_RATE) :][: len(cut)]
        assert np.ravel(loud(cut)) == pytest.approx(np.ravel(loud(there)), abs=0.03)


def test_damage_in_such_a_part_is_told_at_its_time(parts: dict[str, bytes]) -> None:
    second = parts["libopus"]
    pages = [at for at in range(len(second)) if second[at : at + 4] == b"OggS"]
    at = pages[-2] + 100
    joined = parts["flac"] + second[:at] + b"junk" + second[at + 4 :]
    waveform, report = heard(joined)
    assert len(waveform) / SAMPLE_RATE == pytest.approx(6.0, abs=0.1) and 0.0 < report.damaged_s < 2.5
    assert float(report.warnings[0].split("from ")[1].split()[0]) > 3.0
    with pytest.raises(DataError, match="corrupt"):
        decode(joined)


def test_a_part_that_is_no_sound_is_damage(parts: dict[str, bytes]) -> None:
    """A first page of a codec that FFmpeg does not know."""
    joined = parts["libopus"] + parts["flac"].replace(b"\x7fFLAC", b"\x7fWHAT", 1)
    waveform, report = heard(joined, AudioLimits(max_damaged_share=0.6))
    assert len(waveform) > 3.1 * SAMPLE_RATE and report.damaged_s > 0.1
    with pytest.raises(DataError, match="corrupt"):
        decode(joined)


def test_a_part_that_is_cut_is_truncated(parts: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="truncated"):
        decode(parts["libopus"] + parts["flac"][: len(parts["flac"]) * 2 // 3], limits=LENIENT)


def test_parts_of_one_codec_are_ffmpegs_matter(parts: dict[str, bytes]) -> None:
    opus, flac = parts["libopus"], parts["flac"]
    assert codec_changes(io.BytesIO(opus)) == codec_changes(io.BytesIO(opus * 2)) == []
    assert codec_changes(io.BytesIO(b"no Ogg")) == []
    assert codec_changes(io.BytesIO(opus + opus + flac)) == [2 * len(opus)]
