from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from asr.io.messages import MAX_FRAME_BYTES, readable, receive, send


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


def test_a_frame_that_drips_is_given_up_when_its_time_is_over() -> None:
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        ours.sendall(struct.pack("<I", MAX_FRAME_BYTES))
        while not over.wait(0.01):
            ours.sendall(b" ")

    with ours, theirs:
        dripping = threading.Thread(target=drip)
        dripping.start()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            receive(theirs, started + 0.2)
        assert time.monotonic() - started < 2
        with pytest.raises(TimeoutError):
            receive(theirs, started)
        over.set()
        dripping.join()


def test_deep_nesting_is_no_crash_of_who_reads_it() -> None:
    ours, theirs = socket.socketpair()
    body = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    with ours, theirs:
        writer = threading.Thread(target=ours.sendall, args=(struct.pack("<I", len(body)) + body,))
        writer.start()
        with pytest.raises(ValueError, match="without an end"):
            receive(theirs)
        writer.join()


def test_a_wait_ends_with_news_with_an_end_or_with_its_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not readable(theirs.fileno(), 0.01) and not readable(theirs.fileno(), -1.0)
        ours.sendall(b" ")
        assert readable(theirs.fileno(), 60.0) and theirs.recv(1)
        ours.close()
        assert readable(theirs.fileno(), 60.0)
