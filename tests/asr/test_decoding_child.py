from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from asr.audio import AudioLimits, encode_flac
from asr.decoding_child import MAX_FRAME_BYTES, receive, send
from asr.sound import SoundChoice, SoundReport

FLAC = encode_flac(np.zeros(16_000, np.float32))


def test_frames_come_as_they_went() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"detail": "a\nb €"})
        assert receive(theirs) == {"detail": "a\nb €"}
        ours.close()
        with pytest.raises(EOFError):
            receive(theirs)


@pytest.mark.parametrize("sent", [struct.pack("<I", MAX_FRAME_BYTES + 1), struct.pack("<I", 2) + b"[]", b"\1\0\0\0{"])
def test_what_is_no_frame_is_refused(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        with pytest.raises(ValueError):
            receive(theirs)


def test_the_process_writes_samples_and_ends_when_nobody_is_left() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        words = [sys.executable, "-m", "asr.decoding_child", str(theirs.fileno()), str(1 << 30)]
        with subprocess.Popen(words, pass_fds=[theirs.fileno()]) as child:
            theirs.close()
            assert receive(ours) == {"ready": True}
            limits = json.loads(AudioLimits().model_dump_json())
            whole = json.loads(json.dumps(asdict(SoundReport(16_000))))
            for data, key, value, samples in ((FLAC, "report", whole, 16_000), (b"", "reason", "empty_file", 0)):
                send(ours, {"path": None, "bytes": len(data), "limits": limits, "choice": asdict(SoundChoice())})
                ours.sendall(data)
                file = os.memfd_create("samples")
                socket.send_fds(ours, [b"\0"], [file])
                assert receive(ours)[key] == value
                assert os.fstat(file).st_size == 4 * samples
                os.close(file)
            ours.close()
            assert child.wait(60) == 0


def test_it_is_lean() -> None:
    code = (
        "import sys, asr.decoding_child\nprint(sorted({'torch', 'ray', 'transformers', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
