from __future__ import annotations

import errno
import io
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.container import audio_track, opened
from asr.audio.decode import SAMPLE_RATE, decode
from asr.errors import DataError
from tests.asr.sounds import encoded, loud, tone, wav16
from tests.serve.mutations import damaged


def reason(source: Path | bytes, container: str | None = None) -> str:
    with pytest.raises(DataError) as caught, opened(source, container):
        pass
    return caught.value.reason


def test_a_recording_by_path_and_by_its_bytes(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav16(tone(1.0)))
    for source, called in ((clip, str(clip)), (clip.read_bytes(), "uploaded bytes")):
        with opened(source) as (place, file, media):
            assert place == called
            assert audio_track(media, place).stream.codec_context.sample_rate == SAMPLE_RATE
        assert file.closed


def test_more_bytes_than_allowed_are_not_read(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav16(tone(1.0)))
    with pytest.raises(DataError, match="too_large"), opened(clip, max_bytes=1000):
        pass


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "ffconcat relative": "ffconcat version 1.0\nfile {name}\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_cannot_open_another_file(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav16(tone(1.0)))
    trick = tmp_path / "upload.wav"
    trick.write_text(PLAYLISTS[kind].format(path=secret, name=secret.name))
    assert reason(trick) == "not_audio"
    assert reason(trick.read_bytes()) == "not_audio"
    for container in ("concat", "hls"):
        assert reason(trick, container=container) == "not_audio"


def test_without_our_list_ffmpeg_would_follow_the_playlist(tmp_path: Path) -> None:
    """Proof that the test above can fail: the same file, opened by path as PyAV's examples do, plays the other one."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav16(tone(1.0)))
    trick = tmp_path / "upload.wav"
    trick.write_text(PLAYLISTS["ffconcat relative"].format(path=secret, name=secret.name))
    with av.open(trick) as media:
        assert sum(frame.samples for frame in media.decode(audio=0)) == SAMPLE_RATE


def test_a_file_from_a_pipe_ended_the_whole_run(tmp_path: Path) -> None:
    """Its header names a place beyond all files: an OSError for a file on disk, and nothing for an upload."""
    clip = encoded(tmp_path / "pipe.caf", tone(1.0, 16_000), "pcm_s16be", "caf", rate=16_000)
    data = bytearray(clip.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 8] = b"\xff" * 8  # as whoever writes to a pipe says that the size is not known
    for size in (b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00\x7f" + b"\xff" * 6):
        data[at : at + 8] = size
        clip.write_bytes(data)
        assert outcome(clip) == outcome(bytes(data))


def outcome(source: Path | bytes) -> str:
    """What becomes of a source, without its name."""
    try:
        return f"{len(decode(source))} samples"
    except DataError as error:
        return error.reason


@pytest.mark.slow
def test_what_a_damaged_file_says_is_the_same_on_disk_and_in_memory(tmp_path: Path) -> None:
    for number in range(400):
        data = damaged(number)[1]
        (tmp_path / "file").write_bytes(data)
        assert outcome(tmp_path / "file") == outcome(data), number


def test_a_disk_that_cannot_be_read_is_the_row_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("asr.audio.container.open_address", lambda source: (Broken(b"x" * 100), 100))
    assert reason(tmp_path / "a.wav") == "unreadable"


@pytest.mark.medium
def test_a_transport_stream_whose_clock_begins_anew_was_heard_elsewhere(tmp_path: Path) -> None:
    """33 bits at 90 kHz are 95443.7 s; FFmpeg then counts from before zero, or on beyond."""
    waveform = np.zeros(12 * 48_000, np.float32)
    for second in (1, 5, 9):
        waveform[second * 48_000 : (second + 1) * 48_000] = tone(1.0, 48_000)
    for offset_s in ("0", "95438.0", "95300.0"):
        path = encoded(tmp_path / "a.ts", waveform, "aac", "mpegts", output_ts_offset=offset_s)
        assert np.ravel(loud(decode(path))) == pytest.approx([1.0, 2.0, 5.0, 6.0, 9.0, 10.0], abs=0.1)
        for start_s in (0.7, 4.6, 8.5):
            ((begin_s, _),) = loud(decode(path, start_s=start_s, end_s=start_s + 1.2))
            assert begin_s == pytest.approx(np.ceil(start_s) - start_s, abs=0.1)
