from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode
from asr.errors import DataError
from asr.sound import SoundChoice
from tests.asr.sounds import CODECS, Voice, encoded, heard, loud, muxed, riff, tone

TIMED = [("matroska", "aac"), ("mp4", "aac"), ("mpegts", "aac"), ("mov", "pcm_s16le"), ("matroska", "pcm_s16le")]


@pytest.mark.parametrize(("container", "codec"), TIMED)
def test_a_track_that_starts_late_was_heard_at_the_beginning(tmp_path: Path, container: str, codec: str) -> None:
    path = muxed(tmp_path / "late", container, codec, [Voice(tone(2.0), start_s=2.0)], picture_s=6.0)
    waveform, report = heard(path)
    ((start_s, end_s),) = loud(waveform)
    assert (start_s, end_s) == (pytest.approx(2.0, abs=0.07), pytest.approx(4.0, abs=0.07))
    assert not report.warnings and report.damaged_s == 0.0


@pytest.mark.parametrize(("container", "codec"), [each for each in TIMED if each[0] != "mov"])
def test_words_behind_a_gap_in_the_time_stamps_came_too_early(tmp_path: Path, container: str, codec: str) -> None:
    voice = Voice(tone(2.0), pause_at_s=1.0, pause_s=3.0)
    waveform, report = heard(muxed(tmp_path / "gap", container, codec, [voice], picture_s=6.0))
    (_, gap_s), (again_s, _) = loud(waveform)
    assert (gap_s, again_s) == (pytest.approx(1.0, abs=0.1), pytest.approx(4.0, abs=0.1))
    assert report.damaged_s == 0.0 and "by its clock: silence from 1." in report.warnings[0]


def test_a_muted_microphone_made_a_whole_file_truncated(tmp_path: Path) -> None:
    for container in ("webm", "mp4"):
        voice = Voice(tone(2.0), pause_at_s=1.0, pause_s=5.0)
        waveform, _ = heard(muxed(tmp_path / container, container, "libopus", [voice]))
        assert len(waveform) / SAMPLE_RATE == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize("container", ["webm", "mp4"])
def test_a_microphone_that_is_muted_at_the_end_made_a_whole_file_truncated(tmp_path: Path, container: str) -> None:
    """A single packet at 6 s, then none: the header says 6 s, most of which is silence."""
    voice = Voice(tone(2.0), pause_at_s=1.9, pause_s=4.0)
    path = muxed(tmp_path / "muted", container, "libopus", [voice])
    waveform, report = heard(path)
    whole = path.read_bytes()
    with av.open(path) as media:
        media_s = float(media.duration / 1e6)
    assert len(waveform) / SAMPLE_RATE == pytest.approx(media_s, abs=0.1) and not report.damaged_s
    with pytest.raises(DataError, match=r"truncated|not_audio"):  # the MP4's table is at its end
        decode(whole[: len(whole) // 2])


@pytest.mark.parametrize("start_s", [0.3, 1.5, 2.5, 3.2, 3.5])
def test_times_given_back_as_offset_find_the_same_sound(tmp_path: Path, start_s: float) -> None:
    rising = tone(2.0) * np.linspace(0.5, 1.0, 2 * SAMPLE_RATE, dtype=np.float32)
    voices = [Voice(rising, start_s=1.0, pause_at_s=1.0, pause_s=1.0)]
    path = muxed(tmp_path / "clock", "matroska", "pcm_s16le", voices, picture_s=6.0)
    whole, _ = heard(path)
    cut, _ = heard(path, start_s=start_s, end_s=start_s + 0.4)
    first = round(start_s * SAMPLE_RATE)
    assert np.abs(cut - whole[first : first + len(cut)]).max() < 2e-3
    assert len(cut) == round(0.4 * SAMPLE_RATE)


def test_the_default_track_has_the_speech(tmp_path: Path) -> None:
    silence, speech = Voice(np.zeros(2 * SAMPLE_RATE, np.float32)), Voice(tone(2.0), default=True)
    path = muxed(tmp_path / "tracks", "matroska", "pcm_s16le", [silence, speech])
    waveform, report = heard(path)
    assert len(loud(waveform)) == 1 and (report.track, report.tracks) == (1, 2)
    assert report.warnings == ("track 1 of 2 was taken (they count from 0)",)
    waveform, report = heard(path, choice=SoundChoice(0))
    assert not waveform.any() and (report.track, report.warnings) == (0, ())
    with pytest.raises(DataError, match=r"no track 2 .*2 audio tracks, from 0 on") as caught:
        heard(path, choice=SoundChoice(2))
    assert caught.value.reason == "no_track"


def test_without_a_default_the_first_track_is_taken(tmp_path: Path) -> None:
    voices = [Voice(tone(1.0)), Voice(np.zeros(SAMPLE_RATE, np.float32))]
    assert heard(muxed(tmp_path / "tracks", "matroska", "pcm_s16le", voices))[1].track == 0


def damaged(data: bytes, at_s: float, length_s: float, of_s: float) -> bytes:
    """Zeros in the place of so many seconds of sound whose bytes lie evenly."""
    start, end = (round(each / of_s * len(data)) for each in (at_s, at_s + length_s))
    return data[:start] + bytes(end - start) + data[end:]


@pytest.fixture(scope="module", params=["mp3", "ac3", "flac", "opus", "m4a", "webm", "mpegts", "oggflac", "mp3inwav"])
def noisy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Twenty seconds of noise, and a tone from 15 s to 16 s."""
    more = {
        "ac3": ("ac3", "ac3"),
        "mpegts": ("aac", "mpegts"),
        "oggflac": ("flac", "ogg"),
        "mp3inwav": ("libmp3lame", "wav"),
    }
    waveform = np.random.default_rng(0).normal(0, 0.03, 20 * 48_000).astype(np.float32)
    waveform[15 * 48_000 : 16 * 48_000] = tone(1.0, 48_000)
    path = tmp_path_factory.mktemp("noisy") / request.param
    return encoded(path, waveform, *(more | CODECS)[request.param]).read_bytes()


@pytest.mark.medium
def test_an_upload_loses_the_packet_and_not_the_hour(noisy: bytes) -> None:
    """Words behind the damage keep their times, whatever the format. (MP3 crackles where it finds its feet again.)"""
    waveform, report = heard(damaged(noisy, 8.0, 0.5, 20.0))
    ((start_s, end_s),) = [each for each in loud(waveform) if each[1] - each[0] > 0.2]
    assert (start_s, end_s) == (pytest.approx(15.0, abs=0.15), pytest.approx(16.0, abs=0.15))
    assert len(waveform) / SAMPLE_RATE == pytest.approx(20.0, abs=0.25)
    assert report.warnings, "nobody is told"


@pytest.mark.medium
def test_training_does_not_take_what_is_damaged(noisy: bytes) -> None:
    report = heard(damaged(noisy, 8.0, 0.5, 20.0))[1]
    assert 0.2 < report.damaged_s < 3.0
    with pytest.raises(DataError, match=r"corrupt: .* of .* s cannot be decoded, from"):
        decode(damaged(noisy, 8.0, 0.5, 20.0))
    with pytest.raises(DataError, match="corrupt"):
        decode(damaged(noisy, 8.0, 0.5, 20.0), limits=AudioLimits(max_damaged_share=0.5 * report.damaged_s / 20))
    decode(damaged(noisy, 8.0, 0.5, 20.0), limits=AudioLimits(max_damaged_share=1.5 * report.damaged_s / 20))


def test_one_frame_of_a_flac_was_left_out_without_a_word(tmp_path: Path) -> None:
    """Of 4608 samples at 48 kHz, it lasts less than what is jitter elsewhere."""
    noise = np.random.default_rng(0).normal(0, 0.1, 6 * 48_000).astype(np.float32)
    whole = encoded(tmp_path / "a.flac", noise, *CODECS["flac"]).read_bytes()
    at = len(whole) // 2
    for damaged in (whole[:at] + bytes(600) + whole[at + 600 :], whole[:at] + whole[at + 600 :]):
        waveform, report = heard(damaged)
        assert len(waveform) == 6 * SAMPLE_RATE and 0.09 < report.damaged_s < 0.2
        with pytest.raises(DataError, match="corrupt"):
            decode(damaged)


@pytest.mark.medium
def test_bytes_missing_in_the_middle_of_an_mp3_are_silence_there(tmp_path: Path) -> None:
    """Its header counts frames and bytes: it was refused whole, as if its end were missing."""
    waveform = np.random.default_rng(0).normal(0, 0.03, 12 * 48_000).astype(np.float32)
    waveform[9 * 48_000 : 10 * 48_000] = tone(1.0, 48_000)
    whole = encoded(tmp_path / "a.mp3", waveform, *CODECS["mp3"]).read_bytes()
    third, count = len(whole) // 3, len(whole) // 24
    found, report = heard(whole[:third] + whole[third + count :])
    ((start_s, _),) = [each for each in loud(found) if each[1] - each[0] > 0.5]
    assert start_s == pytest.approx(9.0, abs=0.1) and 0.4 < report.damaged_s < 0.7
    with pytest.raises(DataError, match="corrupt"):
        decode(whole[:third] + whole[third + count :])
    with pytest.raises(DataError, match="truncated"):
        decode(whole[: 2 * third])


def test_what_cannot_be_decoded_to_the_end_was_left_out_without_a_word(tmp_path: Path) -> None:
    """A TTA file from which some bytes are gone: no frame behind them can be decoded."""
    whole = encoded(tmp_path / "a.tta", tone(12.0, 48_000), "tta", "tta").read_bytes()
    third = len(whole) // 3
    waveform, report = heard(whole[:third] + whole[third + 100 :], limits=AudioLimits(max_damaged_share=1.0))
    assert len(waveform) == 12 * SAMPLE_RATE and 5.0 < report.damaged_s < 9.0
    with pytest.raises(DataError, match="truncated"):
        decode(whole[: 2 * third])


@pytest.mark.medium
def test_a_file_that_is_mostly_damaged_is_refused(noisy: bytes) -> None:
    with pytest.raises(DataError):
        decode(damaged(noisy, 0.5, 19.0, 20.0), limits=AudioLimits(max_damaged_share=0.1))


BEHIND: dict[str, bytes] = {
    "zeros": bytes(100_000),
    "zeros in which FFmpeg looks for the last page": bytes(70_000),
    "noise": np.random.default_rng(3).bytes(20_000),
    "APEv2 with a cover": b"APETAGEX" + struct.pack("<IIII8x", 2000, 60_000, 1, 1 << 31) + b"\xff\xd8" * 30_000,
    "ID3v1": b"TAG" + bytes(125),
}


@pytest.mark.parametrize("name", ["mp3", "opus", "flac", "m4a"])
@pytest.mark.parametrize("behind", BEHIND)
def test_junk_behind_the_end_made_a_whole_file_truncated(tmp_path: Path, name: str, behind: str) -> None:
    whole = encoded(tmp_path / name, tone(3.0, 48_000), *CODECS[name]).read_bytes()
    waveform = decode(whole + BEHIND[behind])
    assert len(waveform) == pytest.approx(len(decode(whole)), abs=0.1 * SAMPLE_RATE)


@pytest.mark.medium
def test_joined_mp3s_were_truncated(tmp_path: Path) -> None:
    parts = [encoded(tmp_path / f"{n}.mp3", tone(n, 48_000), "libmp3lame", "mp3").read_bytes() for n in (2.0, 3.0, 1.0)]
    cover = b"ID3\x04\x00\x00" + bytes([0, 3, 0, 0]) + b"\xff\xd8" * (3 << 13)
    for joined in (b"".join(parts), cover.join([b"", *parts])):
        waveform, report = heard(joined)
        assert len(waveform) / SAMPLE_RATE == pytest.approx(6.0, abs=0.25)
        assert report.damaged_s < 0.1


def streamed_wav(size: int) -> bytes:
    clip = riff((tone(1.0) * 32767).astype("<i2").tobytes())
    at = clip.index(b"data") + 4
    return (
        b"RIFF" + struct.pack("<I", min(size + 36, 2**32 - 1)) + clip[8:at] + struct.pack("<I", size) + clip[at + 4 :]
    )


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0x7F000000, 0x80000000, 0xFFFFFFFF, 0xFFFFFF00, 0])
def test_a_wav_from_a_pipe_was_hours_too_long(size: int) -> None:
    assert len(decode(streamed_wav(size))) == SAMPLE_RATE


def streamed_aiff(frames: int) -> bytes:
    pcm = (tone(1.0) * 32767).astype(">i2").tobytes()
    rate = b"\x40\x0c\xfa\x00" + bytes(6)  # 16,000 as an 80-bit float
    comm = b"COMM" + struct.pack(">IhIh", 18, 1, frames, 16) + rate
    size = min(frames * 2, 2**31 - 100)
    return b"FORM" + struct.pack(">I", size + 46) + b"AIFF" + comm + b"SSND" + struct.pack(">III", size + 8, 0, 0) + pcm


def streamed_au(size: int) -> bytes:
    pcm = (tone(1.0) * 32767).astype(">i2").tobytes()
    return b".snd" + struct.pack(">IIIII", 24, size, 3, SAMPLE_RATE, 1) + pcm


@pytest.mark.parametrize(
    ("stream", "size"), [(streamed_aiff, 0x3F800000), (streamed_au, 0xFFFFFFFF), (streamed_au, 0x7FFFF000)]
)
def test_so_were_other_kinds(stream: Callable[[int], bytes], size: int) -> None:
    assert len(decode(stream(size))) == SAMPLE_RATE


def test_a_header_that_is_certain_still_refuses() -> None:
    with pytest.raises(DataError, match=r"truncated: .*1\.00 s of 2\.00 s"):
        decode(streamed_wav(2 * SAMPLE_RATE * 2))
    for hours in (2, 5):  # no length of anything that is here
        with pytest.raises(DataError, match=r"truncated: .*1\.00 s of"):
            decode(streamed_wav(2 * SAMPLE_RATE * 3600 * hours))


def test_each_channel_is_asked_for_one_by_one() -> None:
    with pytest.raises(ValueError, match="one after the other"):
        decode(riff(bytes(32_000)), choice=SoundChoice(channel="each"))


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav", "pcm_mulaw", "pcm_f32le"])
def test_a_wav_from_a_pipe_in_any_codec_was_days_too_long(tmp_path: Path, codec: str) -> None:
    path = encoded(tmp_path / "a.wav", tone(2.0, SAMPLE_RATE), codec, "wav", rate=SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    whole = len(decode(bytes(data)))
    data[4:8], data[at : at + 4] = struct.pack("<I", 0x7FFFF024), struct.pack("<I", 0x7FFFF000)
    for count in (b"\xff" * 4, bytes(4)):  # of samples, where there is one: reckoned from the same size, or unknown
        fact = data.find(b"fact") + 8
        data[fact : fact + 4] = count if fact > 8 else data[fact : fact + 4]
        assert len(decode(bytes(data))) == pytest.approx(whole, abs=SAMPLE_RATE // 20)


def test_a_flac_whose_encoder_did_not_know_its_length(tmp_path: Path) -> None:
    data = bytearray(encoded(tmp_path / "a.flac", tone(2.0, 48_000), *CODECS["flac"]).read_bytes())
    data[21] |= 0x0F  # 36 bits of samples in STREAMINFO, all ones
    data[22:26] = b"\xff" * 4
    assert len(decode(bytes(data))) == 2 * SAMPLE_RATE


def fragmented(folder: Path, seconds: float) -> bytes:
    path = folder / "fragmented.mp4"
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "1000000"}
    return encoded(path, tone(seconds, 48_000), "aac", "mp4", **options).read_bytes()


@pytest.mark.medium
def test_the_second_half_of_a_fragmented_mp4_was_lost_without_a_word(tmp_path: Path) -> None:
    whole = fragmented(tmp_path, 12.0)
    assert whole.count(b"moof") >= 5 and len(decode(whole)) / SAMPLE_RATE == pytest.approx(12.0, abs=0.1)
    at = whole.index(b"moof", round(0.7 * len(whole)))
    broken = whole[: at - 4] + bytes(1000) + whole[at + 996 :]
    waveform, report = heard(broken)
    assert len(waveform) / SAMPLE_RATE == pytest.approx(12.0, abs=1.0)
    assert report.damaged_s > 1.0 and "not decodable" in report.warnings[0]
    with pytest.raises(DataError, match="corrupt"):
        decode(broken)


@pytest.mark.medium
def test_so_was_that_of_one_with_a_picture(tmp_path: Path) -> None:
    path = muxed(tmp_path / "a.mp4", "mp4", "aac", [Voice(tone(12.0))], 12.0, movflags="frag_keyframe+empty_moov")
    whole = path.read_bytes()
    at = whole.index(b"moof", round(0.5 * len(whole)))
    waveform, report = heard(whole[: at - 4] + bytes(1000) + whole[at + 996 :], limits=AudioLimits(max_damaged_share=1))
    assert len(waveform) / SAMPLE_RATE == pytest.approx(12.0, abs=1.5) and report.damaged_s > 2.0


def test_wavpack_with_zeros_behind_a_bad_block_and_a_cut(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "a.wv", tone(10.0, 48_000), "wavpack", "wv").read_bytes()
    assert len(decode(whole + bytes(5000))) == len(decode(whole)) == 10 * SAMPLE_RATE
    with pytest.raises(DataError, match="truncated"):
        decode(whole[: len(whole) * 2 // 3])
    bad = whole.index(b"wvpk", len(whole) * 2 // 3)
    waveform, report = heard(whole[:bad] + bytes(500) + whole[bad + 500 :])
    assert len(waveform) == 10 * SAMPLE_RATE and 0 < report.damaged_s < 4


@pytest.mark.medium
@pytest.mark.parametrize("name", ["opus", "oggflac"])
def test_times_in_the_second_part_of_a_joined_ogg_were_beyond_its_end(tmp_path: Path, name: str) -> None:
    codec = CODECS.get(name, ("flac", "ogg"))
    quiet = np.zeros(2 * 48_000, np.float32)
    parts = [np.concatenate([quiet, tone(1.0, 48_000), quiet]), np.concatenate([tone(1.0, 48_000), quiet])]
    files = [encoded(tmp_path / f"{n}.ogg", part, *codec).read_bytes() for n, part in enumerate(parts)]
    for joined in (b"".join(files), files[0] * 2):  # the same one twice is of one serial number
        whole, _ = heard(joined)
        for start_s in (1.5, 4.5, 5.2):
            at_its_time(joined, whole, start_s)


@pytest.mark.medium
@pytest.mark.parametrize(("codec", "container"), [("flac", "flac"), ("aac", "mpegts"), ("libmp3lame", "mp3")])
def test_so_were_those_of_other_joined_files(tmp_path: Path, codec: str, container: str) -> None:
    part = np.concatenate([np.zeros(2 * 48_000, np.float32), tone(1.0, 48_000)])
    joined = encoded(tmp_path / "part", part, codec, container).read_bytes() * 2
    whole, _ = heard(joined)
    assert len(loud(whole)) == 2
    for start_s in (1.5, 3.2, 4.7):
        at_its_time(joined, whole, start_s)


def at_its_time(source: bytes, whole: np.ndarray, start_s: float) -> None:
    """Assert that a stretch is what lies at its time in the whole; an MP3's frames may lie one beside it."""
    cut, _ = heard(source, start_s=start_s, end_s=start_s + 0.8)
    first = round(start_s * SAMPLE_RATE)
    there = whole[first : first + round(0.8 * SAMPLE_RATE)]
    assert len(cut) == len(there)
    for found, expected in zip(np.ravel(loud(cut)), np.ravel(loud(there)), strict=True):
        assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.medium
@pytest.mark.parametrize("name", ["opus", "oggflac"])
@pytest.mark.parametrize("lost", [3, -3, -1])
def test_a_page_of_an_ogg_that_is_lost_is_silence_in_its_place(tmp_path: Path, name: str, lost: int) -> None:
    """FFmpeg tells the time of FLAC a page late, and of a last page nothing."""
    waveform = np.random.default_rng(0).normal(0, 0.03, 20 * 48_000).astype(np.float32)
    for second in range(20):
        waveform[second * 48_000 : second * 48_000 + 24_000] = tone(0.5, 48_000)
    data = encoded(tmp_path / "a.ogg", waveform, *CODECS.get(name, ("flac", "ogg"))).read_bytes()
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    ends_s = [int.from_bytes(data[at + 6 : at + 14], "little") / 48_000 for at in starts]
    at = starts[lost] + 27 + data[starts[lost] + 26] + 5  # the page's header is whole, its checksum is not
    found, report = heard(data[:at] + b"junk" + data[at + 4 :])
    assert report.damaged_s == pytest.approx(ends_s[lost] - ends_s[lost - 1], abs=0.3)
    assert len(found) / SAMPLE_RATE == pytest.approx(20.0, abs=0.1)
    for start_s, end_s in loud(found):
        if end_s - start_s > 0.45:  # not cut by the silence
            assert (start_s + 0.1) % 1.0 == pytest.approx(0.1, abs=0.05)
