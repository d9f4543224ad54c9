"""A process that decodes ends under the feet of a request: the others get their words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import psutil
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from tests.asr.audio.test_sandbox import waveforms
from tests.asr.sounds import wav16
from tests.processes import below, command


def children(kind: str) -> list[psutil.Process]:
    """What forks the decoding processes of the real endpoint's ingress."""
    [ingress] = below("ServeReplica:whisperfleet:Api")
    mine = (" asr.audio.sandbox_child ", f" prepare-{kind}")
    return [one for one in ingress.children() if all(word in command(one) for word in mine)]


def workers(forkers: list[psutil.Process]) -> list[psutil.Process]:
    """What they have forked: each one, the process that decodes next."""
    return [worker for forker in forkers for worker in forker.children()]


@pytest.mark.slow
def test_over_http_a_decoder_that_dies_costs_its_own_request(client: openai.OpenAI, flacs: list[bytes]) -> None:
    def ask(audio: bytes) -> str:
        return client.audio.transcriptions.create(model="tiny", file=("a", audio), language="en").text

    texts = [ask(flac) for flac in flacs[:2]]
    first = decode(flacs[0])
    long = wav16(np.pad(first, (0, 34 * SAMPLE_RATE - len(first))), SAMPLE_RATE)
    while len(victims := workers(children("short"))) < 2:  # they were started with the endpoint
        pass
    [ingress] = below("ServeReplica:whisperfleet:Api")
    for victim in victims:
        victim.suspend()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, flac) for flac in flacs[:2]]
        while waveforms(ingress.pid) < 2:
            pass
        # A long one goes by other threads. Of silence but for its first words: quick, before the two are stalled.
        assert ask(long)
        victims[0].kill()
        victims[1].resume()
        errors = [each.exception() for each in asked]
    [error] = filter(None, errors)
    assert isinstance(error, openai.BadRequestError) and (error.code, error.param) == ("decoder_died", "file")
    assert "decoding ended with SIGKILL" in error.message
    spared = errors.index(None)
    assert asked[spared].result() == texts[spared]
    assert [ask(flac) for flac in flacs[:2]] == texts
    for forker in children("short"):
        forker.kill()  # as the kernel does where memory is short: no file's fault
    assert [ask(flac) for flac in flacs[:2]] == texts
