from __future__ import annotations

import io

from asr.audio.track.peek import read_at, size_of


def test_a_file_stays_where_it_was() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(3)
    assert size_of(file) == 10 and read_at(file, 8, 5) == b"89" and read_at(file, 20, 1) == b"" and file.tell() == 3
