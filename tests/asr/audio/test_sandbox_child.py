from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from asr.audio.container import OpenFile
from asr.audio.decode import encode_flac
from asr.audio.sandbox_child import SampleSink
from asr.audio.sandbox_task import Task
from asr.audio.shared_samples import memory
from asr.io.messages import ASKED, BORN, receive
from asr.sound import SoundReport

FLAC = encode_flac(np.zeros(16_000, np.float32))


@pytest.mark.medium
def test_each_process_does_one_thing_and_ends_and_what_forks_them_ends_when_nobody_is_left() -> None:
    control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    whole = {"found": json.loads(json.dumps(asdict(SoundReport(16_000))))}
    with control:
        words = [sys.executable, "-m", "asr.audio.sandbox_child", str(theirs.fileno()), str(1 << 30)]
        with subprocess.Popen(words, pass_fds=[theirs.fileno()]) as forker:
            theirs.close()
            assert missing(json.loads(control.recv(10_000))) == []
            before = 0
            for contents in ([FLAC], [b""], [FLAC, b"", FLAC]):
                control.send(ASKED.pack(before))
                data, [descriptor], _, _ = socket.recv_fds(control, BORN.size, 1)
                status, pid = BORN.unpack(data)
                assert status == 0 and pid not in (before, forker.pid)
                with socket.socket(fileno=descriptor) as ours:
                    answers, written = asked(ours, contents)
                    with pytest.raises(EOFError):
                        receive(ours)
                for content, answer in zip(contents, answers, strict=True):
                    assert answer == whole if content else answer["reason"] == "empty_file"
                assert written == 4 * 16_000 * contents.count(FLAC)
                before = pid
            control.close()
            assert forker.wait(60) == 0


def missing(begun: dict[str, Any]) -> list[str]:
    assert begun["ready"] is True
    return [each for each in begun["missing"] if "landlock" not in each]  # which some kernels do not have


def asked(ours: socket.socket, contents: Sequence[bytes]) -> tuple[list[dict[str, Any]], int]:
    """Ask a child for recordings, and return its answers and how many bytes of samples it has written."""
    assert missing(receive(ours)) == []
    tasks, files = [], []
    for content in contents:
        files.append(os.memfd_create("recording"))
        os.write(files[-1], content)
        tasks.append(json.loads(Task(b"").text(OpenFile("it", sys.stdin.buffer, len(content)), True)))
    with memory() as samples:
        body = json.dumps(tasks).encode()
        socket.send_fds(ours, [struct.pack("<I", len(body)) + body], [samples, *files])
        answers = receive(ours)["answers"]
        for file in files:
            os.close(file)
        return answers, os.fstat(samples).st_size


def test_samples_are_written_megabyte_by_megabyte_from_where_it_is_told() -> None:
    sound = np.arange(1_000_000, dtype=np.float32)
    collect = SampleSink()
    with memory() as file:
        collect.begin(file, 8)
        for start in range(0, len(sound), 333_333):
            collect(sound[start : start + 333_333])
        assert os.fstat(file).st_size == 8 + 3 * (1 << 20)
        assert collect.flush() == 8 + sound.nbytes
        assert os.pread(file, sound.nbytes + 100, 8) == sound.tobytes()
        collect.begin(file, 4)
        assert collect.flush() == 4


@pytest.mark.medium
def test_it_is_lean() -> None:
    code = "import sys, asr.audio.sandbox_child\n"
    code += "print(sorted({'torch', 'ray', 'transformers', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
