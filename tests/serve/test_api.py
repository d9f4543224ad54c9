"""The endpoint as customers meet it: the official client, HTTP, Ray Serve, a real checkpoint, real speech."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest

from asr.audio import encode_flac
from asr.scoring import score
from asr.utterance import Utterance
from tests.serve.conftest import LIMITS, FakeEndpoint
from tests.serve.fakes import POISON, noise


def wav(samples: np.ndarray) -> bytes:
    """A 16 kHz mono WAV file of float32 samples, NaN included."""
    data = samples.astype("<f4").tobytes()
    head = b"fmt " + (16).to_bytes(4, "little") + bytes([3, 0, 1, 0])
    head += (16_000).to_bytes(4, "little") + (64_000).to_bytes(4, "little") + bytes([4, 0, 32, 0])
    chunks = head + b"data" + len(data).to_bytes(4, "little") + data
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_real_speech_comes_back_as_words(
    client: openai.OpenAI, flacs: list[bytes], english_clips: list[Utterance]
) -> None:
    def ask(flac: bytes) -> str:
        return client.audio.transcriptions.create(model="tiny", file=("clip.flac", flac), language="en").text

    with ThreadPoolExecutor(len(flacs)) as pool:
        texts = list(pool.map(ask, flacs))
    references = [clip.text for clip in english_clips[: len(flacs)]]
    result = score(references, texts, "normalised", "en")
    assert result.rate < 0.15, f"{result.rate:.1%}: {list(zip(references, texts, strict=True))}"


def test_plain_text_and_the_name_that_programs_have_built_in(client: openai.OpenAI, flacs: list[bytes]) -> None:
    as_json = client.audio.transcriptions.create(model="tiny", file=flacs[0]).text
    as_text = client.audio.transcriptions.create(model="whisper-1", file=flacs[0], response_format="text")
    assert as_text == f"{as_json}\n"


NAN = wav(np.full(16_000, np.nan, dtype=np.float32))
SHORT = encode_flac(np.zeros(100, np.float32))


@pytest.mark.parametrize(
    ("file", "options", "error", "code", "param"),
    [
        (b"", {}, openai.BadRequestError, "empty_file", "file"),
        (("a.wav", b"these are words, not sounds"), {}, openai.BadRequestError, "not_audio", "file"),
        (("a.wav", NAN), {}, openai.BadRequestError, "non_finite", "file"),
        (SHORT, {}, openai.BadRequestError, "too_short", "file"),
        (noise(90.0), {}, openai.BadRequestError, "too_long", "file"),
        (None, {"model": "large"}, openai.NotFoundError, "model_not_found", "model"),
        (None, {"language": "englsh"}, openai.BadRequestError, "invalid_language", "language"),
        (None, {"language": "it"}, openai.BadRequestError, "invalid_language", "language"),
        (None, {"response_format": "srt"}, openai.BadRequestError, "unsupported_value", "response_format"),
        (None, {"stream": True}, openai.BadRequestError, "unsupported_value", "stream"),
        (None, {"temperature": 0.7}, openai.BadRequestError, "unsupported_value", "temperature"),
        (None, {"prompt": "Digium"}, openai.BadRequestError, "unsupported_value", "prompt"),
        (
            None,
            {"response_format": "json", "timestamp_granularities": ["word"]},
            openai.BadRequestError,
            "unsupported_value",
            "timestamp_granularities",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_is_refused_with_a_reason(
    client: openai.OpenAI,
    flacs: list[bytes],
    file: Any,
    options: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(error) as raised:
        client.audio.transcriptions.create(**{"model": "tiny", "file": flacs[0] if file is None else file} | options)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert isinstance(raised.value.body, dict) and set(raised.value.body) == {"message", "type", "param", "code"}


def test_too_large_an_upload_is_refused(client: openai.OpenAI) -> None:
    file = b"x" * (int(LIMITS["max_upload_bytes"]) + 1)
    with pytest.raises(openai.APIStatusError) as raised:
        client.audio.transcriptions.create(model="tiny", file=file)
    assert (raised.value.status_code, raised.value.code) == (413, "too_large")


def test_the_service_still_answers_after_all_that(client: openai.OpenAI, flacs: list[bytes], endpoint: str) -> None:
    assert client.audio.transcriptions.create(model="tiny", file=flacs[0]).text
    assert get(f"{endpoint}/readyz") == (200, {"status": "ready"})


def test_a_language_that_is_none_is_met_with_the_nearest(client: openai.OpenAI, flacs: list[bytes]) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'english'"):
        client.audio.transcriptions.create(model="tiny", file=flacs[0], language="englsh")


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="only 'tiny'"):
        client.models.retrieve("openai/whisper-large-v3")


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/audio/transcriptions", 405)])
def test_what_is_not_there_has_the_same_shape(endpoint: str, path: str, status: int) -> None:
    answered, body = get(endpoint + path)
    assert answered == status
    assert set(body["error"]) == {"message", "type", "param", "code"}


def send(client: openai.OpenAI, seconds: float, language: str = "en") -> str:
    return client.audio.transcriptions.create(model="fake", file=noise(seconds), language=language).text


def test_windows_of_a_long_recording_are_joined_in_order(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    seconds = [int(word) for word in send(fake_client, 100.0).split()]
    assert len(seconds) >= 4 and sum(seconds) == pytest.approx(100, abs=len(seconds))
    assert min(seconds[:-1]) >= 25 and seconds[-1] < 25  # each cut lies in the last 5 s of 30, and the rest comes last


def test_an_error_of_ours_shows_nothing_of_the_house(fake_client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        send(fake_client, 2.0, POISON)
    assert raised.value.code == "internal_error"
    assert "secret" not in raised.value.response.text and "Traceback" not in raised.value.response.text
    assert send(fake_client, 3.0) == "3"


def turned_away(client: openai.OpenAI) -> bool:
    """Ask for a model that does not exist: refused either way, but where the house is full, for that reason."""
    try:
        client.audio.transcriptions.create(model="none", file=b"nothing")
    except openai.RateLimitError as error:
        assert (error.code, error.response.headers["retry-after"]) == ("queue_full", "2")
        return True
    except openai.NotFoundError:
        return False
    raise AssertionError("neither admitted nor turned away")


def test_one_request_too_many_is_told_to_come_again_while_health_is_answered(
    fake: FakeEndpoint, fake_client: openai.OpenAI
) -> None:
    patient = fake_client.with_options(max_retries=10)  # the question whether the house is full takes a place itself
    with ThreadPoolExecutor(7) as pool:
        with fake.hold():
            answers = [pool.submit(send, patient, seconds) for seconds in range(1, 8)]
            while not turned_away(fake_client):
                pass
            assert get(f"{fake.url}/healthz") == (200, {"status": "ok"})
            assert get(f"{fake.url}/readyz") == (200, {"status": "ready"})
        assert [int(answer.result()) for answer in answers] == list(range(1, 8))


def test_a_request_that_takes_too_long_ends_and_is_withdrawn(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(2) as pool, fake.hold():
        decoding = pool.submit(send, fake_client, 2.0)
        while not fake.batches():
            pass
        waiting = pool.submit(send, fake_client, 3.0)
        for request in (decoding, waiting):
            error = request.exception()
            assert isinstance(error, openai.APIStatusError)
            assert (error.status_code, error.code) == (504, "timeout")
    assert send(fake_client, 4.0) == "4"
    assert fake.batches() == [[2], [4]]


def test_the_windows_of_a_client_that_left_are_withdrawn(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(1) as pool, fake.hold():
        decoding = pool.submit(send, fake_client, 2.0)
        while not fake.batches():
            pass
        with pytest.raises(openai.APITimeoutError):
            send(fake_client.with_options(timeout=2.0), 3.0)
        get(f"{fake.url}/readyz")
    assert decoding.result() == "2"
    assert send(fake_client, 4.0) == "4"
    assert fake.batches() == [[2], [4]]
