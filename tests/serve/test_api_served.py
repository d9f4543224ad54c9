"""The endpoint as customers meet it: the official client, HTTP, Ray Serve, a real checkpoint, real speech.

Here is what Serve, its proxy and a model have a part in; every form of a request and of its answer is in ``test_api``.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import ray.serve

from asr.audio.decode import decode, encode_flac
from asr.scoring.error_rates import score
from asr.utterance import Utterance
from serve.replica.autoscaling import QUEUED_AUDIO
from tests.serve.conftest import ADMIN_KEY, KEY, LIMITS, FakeEndpoint, beside, metrics
from tests.serve.fakes import POISON, POISON_S, babble, noise, voice
from tests.serve.ingress.test_api import FORMATS, GIVEN, check_events, check_whole, send
from tests.speed import WAIT_S

pytestmark = pytest.mark.slow  # each waits for other processes, which may wait for a core


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=WAIT_S) as response:
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


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_an_english_model_does_not_translate(client: openai.OpenAI, flacs: list[bytes]) -> None:
    with pytest.raises(openai.BadRequestError, match="'tiny' knows English only and cannot translate") as raised:
        client.audio.translations.create(model="tiny", file=flacs[0])
    assert (raised.value.code, raised.value.param) == ("unsupported_model", "model")


def test_too_large_an_upload_is_refused(client: openai.OpenAI) -> None:
    file = b"x" * (int(LIMITS["max_upload_bytes"]) + 1)
    with pytest.raises(openai.APIStatusError) as raised:
        client.audio.transcriptions.create(model="tiny", file=file)
    assert (raised.value.status_code, raised.value.code) == (413, "too_large")


@pytest.mark.parametrize(
    ("file", "options", "error", "code"),
    [
        (("a.wav", b"these are words, not sounds"), {}, openai.BadRequestError, "not_audio"),
        (noise(90.0), {"stream": True}, openai.BadRequestError, "too_long"),
        (noise(1.0), {"model": "large"}, openai.NotFoundError, "model_not_found"),
        (noise(1.0), {"language": "it"}, openai.BadRequestError, "invalid_language"),
    ],
    ids=["not audio", "too long", "no model", "English only"],
)
def test_a_bad_request_is_refused_with_a_reason(
    client: openai.OpenAI, file: Any, options: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as raised:
        client.audio.transcriptions.create(**{"model": "tiny", "file": file} | options)
    assert raised.value.code == code
    assert isinstance(raised.value.body, dict) and set(raised.value.body) == {"message", "type", "param", "code"}


def test_the_service_still_answers_after_all_that(client: openai.OpenAI, flacs: list[bytes], endpoint: str) -> None:
    assert client.audio.transcriptions.create(model="tiny", file=flacs[0]).text
    assert get(f"{endpoint}/readyz") == (200, {"status": "ready"})


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


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_asynchronous_client_gets_the_same(fake: FakeEndpoint, stream: bool) -> None:
    async def ask(client: openai.AsyncOpenAI, response_format: Any) -> None:
        answer: Any = await client.audio.transcriptions.create(**GIVEN, response_format=response_format, stream=stream)
        if stream:
            check_events([event async for event in answer], response_format)
        else:
            check_whole(answer, response_format)

    async def all_formats() -> None:
        async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key=KEY, max_retries=0) as client:
            await asyncio.gather(*(ask(client, each) for each in FORMATS))

    asyncio.run(all_formats())


def windows_of(event: Any) -> int:
    return len(event.delta.split())


def test_words_arrive_while_later_windows_are_still_decoded(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    with fake.hold(after=1):
        stream = fake_client.audio.transcriptions.create(model="fake", file=voice(330.0), language="en", stream=True)
        first = next(stream)
        assert first.type == "transcript.text.delta" and windows_of(first) == 1
        heard = {"end": first.end, "duration": first.duration}  # type: ignore[union-attr]
        assert heard == {"end": pytest.approx(27.5, abs=2.5), "duration": 330.0}
        assert sum(map(len, fake.batches())) < 12  # of the windows, the last are not even begun
    deltas = [first, *stream]
    done = deltas.pop()
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text  # type: ignore[union-attr]
    assert sum(map(int, done.text.split())) == pytest.approx(330, abs=len(deltas))


def in_flight(fake: FakeEndpoint) -> int:
    counted = metrics(fake.url)
    return int(float(counted.partition('whisperfleet_requests_in_flight{model="fake"} ')[2].split()[0]))


def test_a_listener_that_leaves_is_missed_before_the_next_batch(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    with fake.hold(after=1):
        stream = fake_client.audio.transcriptions.create(model="fake", file=voice(600.0), language="en", stream=True)
        next(stream)
        while len(fake.batches()) < 2:
            pass
        assert in_flight(fake) == 1
        stream.close()
        while in_flight(fake):
            pass
        replica = ray.serve.get_deployment_handle("Transcriber", "fake")
        decoding_s = 30.0 * len(fake.batches()[1])
        while replica.record_autoscaling_stats.remote().result()[QUEUED_AUDIO] > decoding_s:
            pass
    assert send(fake_client, 4.0) == "4"
    assert fake.batches()[2:] == [[4]]


def test_what_fails_after_the_first_words_is_an_event_of_the_stream(fake_client: openai.OpenAI) -> None:
    pause = np.zeros(16_000 * 4, np.float32)
    poisoned = encode_flac(np.concatenate([babble(14.0), pause, babble(POISON_S - 0.8), pause]))
    stream = fake_client.audio.transcriptions.create(model="fake", file=poisoned, language="en", stream=True)
    first = next(stream)
    assert first.type == "transcript.text.delta" and first.delta == "14"
    with pytest.raises(openai.APIError, match="internal error") as raised:
        next(stream)
    assert raised.value.code == "internal_error"
    assert send(fake_client, 3.0) == "3"


def test_the_access_log_names_requests_and_holds_no_words(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    stream = fake_client.audio.transcriptions.create(**GIVEN, stream=True, extra_headers={"X-Request-Id": "mine-1"})
    assert set(stream.response.headers["x-request-id"].split(", ")) == {"mine-1"}
    assert list(stream)[-1].type == "transcript.text.done"
    while in_flight(fake):
        pass
    *_, line = map(json.loads, (fake.folder / "access.jsonl").read_text().splitlines())
    assert "words" not in line
    assert (line["request_id"], line["key"], line["model"], line["status"]) == ("mine-1", "tester", "fake", 200)
    assert (line["audio_s"], line["warnings"]) == (pytest.approx(4.0), None)


def test_times_of_real_speech(client: openai.OpenAI, english_clips: list[Utterance]) -> None:
    silence = np.zeros(16_000 * 3, np.float32)
    spoken = [decode(str(clip.audio)) for clip in english_clips[:3]]
    starts_s = np.cumsum([3.0, *(3.0 + len(waveform) / 16_000 for waveform in spoken)])
    file = encode_flac(np.concatenate([part for waveform in spoken for part in (silence, waveform)]))
    both: Any = ["word", "segment"]
    answer = client.audio.transcriptions.create(
        model="tiny", file=file, response_format="verbose_json", timestamp_granularities=both
    )
    assert score([" ".join(clip.text for clip in english_clips[:3])], [answer.text], "normalised", "en").rate < 0.15
    assert answer.words and answer.segments
    assert " ".join(word.word for word in answer.words) == answer.text
    times = [time for word in answer.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= answer.duration
    for start_s, waveform in zip(starts_s, spoken, strict=False):
        within = [
            word for word in answer.words if start_s - 0.5 <= word.start <= start_s + len(waveform) / 16_000 + 0.5
        ]
        assert len(within) >= 8, f"few words from {start_s} s on: {answer.words}"
    assert all(segment.end - segment.start < 12 for segment in answer.segments)

    cues = client.audio.transcriptions.create(model="tiny", file=file, response_format="srt").split("\n\n")
    assert cues.pop() == ""
    for number, cue in enumerate(cues, start=1):
        assert re.fullmatch(rf"{number}\n(\d\d:\d\d:\d\d,\d{{3}}) --> (\d\d:\d\d:\d\d,\d{{3}})\n\S.*", cue), cue
    assert " ".join(cue.split("\n")[2] for cue in cues) == answer.text


def test_real_speech_streams_the_words_of_the_whole_answer(client: openai.OpenAI, flacs: list[bytes]) -> None:
    whole = client.audio.transcriptions.create(model="tiny", file=flacs[1]).text
    *deltas, done = client.audio.transcriptions.create(model="tiny", file=flacs[1], stream=True)
    assert "".join(event.delta for event in deltas) == done.text == whole  # type: ignore[union-attr]


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
        assert error.code == "queue_full" and int(error.response.headers["retry-after"]) >= 1
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


@pytest.mark.parametrize("stream", [False, True])
def test_one_key_that_fills_the_house_with_what_has_arrived_makes_room_for_another(
    fake: FakeEndpoint, fake_client: openai.OpenAI, stream: bool
) -> None:
    def greedy(seconds: int) -> str | None:
        """Return the code of the error that a long recording ends with, if it does."""
        create = fake_client.audio.transcriptions.create
        while True:
            try:
                answer = create(model="fake", file=voice(float(seconds)), language="en", stream=stream)
                return None if [*answer] else "empty"
            except openai.APIError as error:
                if error.code != "queue_full":  # the question whether the house is full takes a place itself
                    return error.code

    guest = fake_client.with_options(api_key=ADMIN_KEY)
    with ThreadPoolExecutor(8) as pool:
        with fake.hold():
            answers = [pool.submit(greedy, seconds) for seconds in range(1, 8)]
            while sum(len(batch) for batch in fake.batches()) < 1 or not turned_away(fake_client):
                pass
            asked = pool.submit(send, guest, 8.0)
            while not any(answer.done() for answer in answers):
                pass
        assert asked.result() == "8"
        codes = [answer.result() for answer in answers]
    assert sorted(codes, key=str) == [None] * 6 + ["displaced"]


def test_nothing_is_redirected_to_the_host_that_was_sent(fake: FakeEndpoint) -> None:
    answer = httpx.get(f"{fake.url}/readyz/", headers={"Host": "evil.example"}, timeout=WAIT_S)
    assert answer.status_code == 404 and "evil" not in f"{answer.headers}{answer.text}"


def test_a_request_that_takes_too_long_ends_and_is_withdrawn(endpoint: str, tmp_path: Path) -> None:
    with beside(endpoint, "hurried", tmp_path, request_timeout_s=10.0) as hurried:
        client = openai.OpenAI(base_url=f"{hurried.url}/v1", api_key=KEY, max_retries=0)
        with ThreadPoolExecutor(2) as pool, hurried.hold():
            decoding = pool.submit(send, client, 2.0)
            while not hurried.batches():
                pass
            waiting = pool.submit(send, client, 3.0)
            for request in (decoding, waiting):
                error = request.exception()
                assert isinstance(error, openai.APIStatusError)
                assert (error.status_code, error.code) == (504, "timeout")
        assert send(client, 4.0) == "4"
        assert hurried.batches() == [[2], [4]]


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
