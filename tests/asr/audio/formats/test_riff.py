from __future__ import annotations

import io
from pathlib import Path

from asr.audio.decode import SAMPLE_RATE
from asr.audio.formats.riff import chunks
from tests.asr.sounds import encoded, tone, wav16


def test_chunks_end_in_garbage(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "a.avi", tone(1.0), "pcm_s16le", "avi", rate=SAMPLE_RATE).read_bytes()
    names = [chunk.name for chunk in chunks(io.BytesIO(whole), 12, len(whole))]
    assert names[0] == b"hdrl" and names[-1] == b"idx1"
    assert [chunk.name for chunk in chunks(io.BytesIO(whole[:40] + bytes(500)), 12, 540)] == [b"hdrl"]


def test_a_wav_has_its_samples_in_one() -> None:
    whole = wav16(tone(1.0))
    found = {chunk.name: chunk for chunk in chunks(io.BytesIO(whole), 12, len(whole))}
    assert found[b"data"].size == 2 * SAMPLE_RATE and found[b"data"].end == len(whole)
