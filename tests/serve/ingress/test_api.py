"""Every form of a request and of its answer: the official client, and the whole endpoint in this process (``inside``).

Through Ray Serve, with real words: ``test_api_served``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from asr.audio.decode import encode_flac
from serve.config import ServeConfig
from tests.asr.sounds import encoded, wav16
from tests.serve.conftest import KEY, FakeEndpoint
from tests.serve.fakes import FakeEngine, babble, noise, voice
from tests.serve.inside import inside

MAX_BYTES, MAX_AUDIO_S = 5_000_000, 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inside")
    (folder / "keys.yaml").write_text(f"- {{name: tester, key: {KEY}}}")
    return folder


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[TestClient]:
    """A client of the endpoint that sends what it is told to."""
    config = ServeConfig(
        model="fake",
        batch_wait_s=0.0,
        cpus_each=1,
        keys=str(folder / "keys.yaml"),
        access_log=str(folder / "access.jsonl"),
        max_upload_bytes=MAX_BYTES,
        max_audio_s=MAX_AUDIO_S,
    )
    with inside(config, lambda config: FakeEngine(config, folder)) as http:
        first = {
            "data": {"model": "fake"},
            "files": {"file": noise(1.0)},
            "headers": {"Authorization": f"Bearer {KEY}"},
        }
        assert http.post("/v1/audio/transcriptions", **first).text  # it waits for the children that decode
        yield http


@pytest.fixture
def fake(http: TestClient, folder: Path) -> FakeEndpoint:
    return FakeEndpoint(str(http.base_url), folder)


@pytest.fixture(scope="module")
def fake_client(http: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=KEY, max_retries=0, http_client=http)


def wav(samples: np.ndarray) -> bytes:
    """A 16 kHz mono WAV file of float32 samples, NaN included."""
    data = samples.astype("<f4").tobytes()
    head = b"fmt " + (16).to_bytes(4, "little") + bytes([3, 0, 1, 0])
    head += (16_000).to_bytes(4, "little") + (64_000).to_bytes(4, "little") + bytes([4, 0, 32, 0])
    chunks = head + b"data" + len(data).to_bytes(4, "little") + data
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks


NAN = wav(np.full(16_000, np.nan, dtype=np.float32))
SHORT = encode_flac(np.zeros(100, np.float32))
MANY = wav16(np.zeros((16_000, 9), np.float32), channels=9)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("file", "options", "error", "code", "param"),
    [
        (b"", {}, openai.BadRequestError, "empty_file", "file"),
        (("a.wav", b"these are words, not sounds"), {}, openai.BadRequestError, "not_audio", "file"),
        (("a.wav", NAN), {}, openai.BadRequestError, "non_finite", "file"),
        (SHORT, {}, openai.BadRequestError, "too_short", "file"),
        (noise(130.0), {}, openai.BadRequestError, "too_long", "file"),
        (noise(130.0), {"stream": True}, openai.BadRequestError, "too_long", "file"),
        (None, {"model": "large"}, openai.NotFoundError, "model_not_found", "model"),
        (None, {"language": "englsh"}, openai.BadRequestError, "invalid_language", "language"),
        (None, {"language": "fr"}, openai.BadRequestError, "invalid_language", "language"),
        (None, {"temperature": 1.5}, openai.BadRequestError, "invalid_value", "temperature"),
        (None, {"include": ["logprobs"]}, openai.BadRequestError, "unsupported_value", "include"),
        (None, {"extra_body": {"promt": "Digium"}}, openai.BadRequestError, "unknown_parameter", "promt"),
        (None, {"extra_body": {"channel": "front"}}, openai.BadRequestError, "invalid_value", "channel"),
        (None, {"extra_body": {"track": "first"}}, openai.BadRequestError, "invalid_value", "track"),
        (None, {"extra_body": {"channel": "right"}}, openai.BadRequestError, "no_channel", "channel"),
        (None, {"extra_body": {"track": 1}}, openai.BadRequestError, "no_track", "track"),
        (MANY, {"extra_body": {"channel": "each"}}, openai.BadRequestError, "too_many_channels", "channel"),
        (
            None,
            {"response_format": "json", "timestamp_granularities": ["word"]},
            openai.BadRequestError,
            "invalid_value",
            "timestamp_granularities",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_is_refused_with_a_reason(
    fake_client: openai.OpenAI,
    file: Any,
    options: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(error) as raised:
        fake_client.audio.transcriptions.create(**GIVEN | ({} if file is None else {"file": file}) | options)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert isinstance(raised.value.body, dict) and set(raised.value.body) == {"message", "type", "param", "code"}


@pytest.mark.medium
def test_too_large_an_upload_is_refused(fake_client: openai.OpenAI) -> None:
    file = b"x" * (MAX_BYTES + 1)
    with pytest.raises(openai.APIStatusError) as raised:
        fake_client.audio.transcriptions.create(model="fake", file=file)
    assert (raised.value.status_code, raised.value.code) == (413, "too_large")


@pytest.mark.medium
def test_a_language_that_is_none_is_met_with_the_nearest(fake_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'italian'"):
        fake_client.audio.transcriptions.create(**GIVEN | {"language": "itallian"})


def test_the_model_is_listed(fake_client: openai.OpenAI) -> None:
    assert [model.id for model in fake_client.models.list()] == ["fake"]
    assert fake_client.models.retrieve("fake").id == "fake"
    with pytest.raises(openai.NotFoundError, match="only 'fake'"):
        fake_client.models.retrieve("openai/whisper-large-v3")


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/audio/transcriptions", 405)])
def test_what_is_not_there_has_the_same_shape(http: TestClient, path: str, status: int) -> None:
    answer = http.get(path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
CUES = {
    "srt": "1\n00:00:00,000 --> 00:00:04,000\n4\n\n",
    "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:04.000\n4\n\n",
}
GIVEN: dict[str, Any] = {
    "model": "fake",
    "file": ("four.flac", voice(4.0)),
    "language": "Italian",
    "prompt": " Digium, Asterisk ",
    "temperature": 0.4,
}
ASKED = {"seconds": 4, "language": "it", "task": "transcribe", "prompt": "Digium, Asterisk", "temperature": 0.4}
STRATEGIES: list[Any] = ["auto", {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200}]


def send(client: openai.OpenAI, seconds: float, language: str = "en") -> str:
    return client.audio.transcriptions.create(model="fake", file=voice(seconds), language=language).text


def check_whole(answer: Any, response_format: str, language: str = "italian") -> None:
    """Check the answer to ``GIVEN``."""
    if response_format == "json":
        assert answer.to_dict() == {"text": "4", "usage": {"type": "duration", "seconds": 4}}
    elif response_format == "verbose_json":
        assert (answer.text, answer.language, answer.duration) == ("4", language, 4.0)
        [segment] = answer.segments
        assert (segment.id, segment.start, segment.end, segment.text, segment.tokens) == (0, 0.0, 4.0, " 4", [0])
        assert (segment.avg_logprob, segment.no_speech_prob, segment.temperature) == (-0.25, 0.125, 0.4)
    else:
        assert answer == CUES.get(response_format, "4\n")


def check_events(found: list[Any], response_format: str) -> None:
    """Check the stream that answers ``GIVEN``."""
    deltas, done = found[:-1], found[-1]
    assert {event.type for event in deltas} == {"transcript.text.delta"} and done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text == CUES.get(response_format, "4")
    assert (done.usage.type, done.usage.input_tokens, done.usage.output_tokens) == ("tokens", 200, 1)
    assert done.usage.total_tokens == 201
    for event in found:
        assert hasattr(event, "segments") == (response_format == "verbose_json")
    if response_format == "verbose_json":
        assert done.language == "italian" and done.segments == deltas[0].segments


@pytest.mark.medium
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("response_format", FORMATS)
def test_every_format_with_every_parameter(
    fake: FakeEndpoint, fake_client: openai.OpenAI, response_format: Any, stream: bool
) -> None:
    fake.clear()
    for strategy in STRATEGIES:
        answer: Any = fake_client.audio.transcriptions.create(
            **GIVEN, response_format=response_format, stream=stream, chunking_strategy=strategy
        )
        if stream:
            check_events(list(answer), response_format)
        else:
            check_whole(answer, response_format)
    with_times = response_format in ("verbose_json", "srt", "vtt")
    assert fake.clips() == [ASKED | {"timestamps": with_times, "words": False}] * 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("granularities", [["word"], ["segment"], ["word", "segment"]], ids="-".join)
def test_times_are_those_that_were_asked_for(
    fake: FakeEndpoint, fake_client: openai.OpenAI, granularities: Any, stream: bool
) -> None:
    fake.clear()
    answer: Any = fake_client.audio.transcriptions.create(
        **GIVEN, response_format="verbose_json", timestamp_granularities=granularities, stream=stream
    )
    for found in list(answer) if stream else [answer]:
        words, segments = getattr(found, "words", None), getattr(found, "segments", None)
        assert (segments is not None) == ("segment" in granularities)
        assert (words is not None) == ("word" in granularities)
        if words:
            [word] = words if stream is False else [openai.types.audio.TranscriptionWord(**each) for each in words]
            assert (word.word, word.start, word.end) == ("4", 0.0, 4.0)
    assert fake.clips() == [ASKED | {"timestamps": "segment" in granularities, "words": "word" in granularities}]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("response_format", FORMATS)
def test_a_translation_is_english_whatever_is_spoken(
    fake: FakeEndpoint, fake_client: openai.OpenAI, response_format: Any
) -> None:
    fake.clear()
    given = {name: value for name, value in GIVEN.items() if name != "language"}
    answer = fake_client.audio.translations.create(
        **given, response_format=response_format, extra_body={"language": "Italian"}
    )
    check_whole(answer, response_format, "english")
    with_times = response_format in ("verbose_json", "srt", "vtt")
    assert fake.clips() == [ASKED | {"task": "translate", "timestamps": with_times, "words": False}]


@pytest.mark.parametrize("response_format", FORMATS)
@pytest.mark.parametrize("audio", [noise(3.0), encode_flac(np.zeros(48_000, np.float32))], ids=["noise", "silence"])
def test_nothing_spoken_is_an_empty_answer(
    fake: FakeEndpoint, fake_client: openai.OpenAI, response_format: Any, audio: bytes
) -> None:
    fake.clear()
    asked: Any = {"model": "fake", "file": audio, "response_format": response_format}
    answer: Any = fake_client.audio.transcriptions.create(**asked)
    if response_format in ("json", "verbose_json"):
        assert answer.text == "" and not getattr(answer, "segments", None)
    else:
        assert answer == {"text": "\n", "srt": "", "vtt": "WEBVTT\n\n"}[response_format]
    events = list(fake_client.audio.transcriptions.create(**asked, stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].text.replace("WEBVTT", "").strip() == ""
    assert fake.clips() == []


@pytest.fixture(scope="module")
def call() -> bytes:
    """Two who speak to each other, each in a channel: for 3 s, for 4 s after 5 s, and for 6 s after 15 s."""
    channels = np.zeros((30 * 16_000, 2), np.float32)
    for number, start_s, seconds in ((0, 0, 3), (1, 5, 4), (0, 15, 6)):
        channels[start_s * 16_000 : (start_s + seconds) * 16_000, number] = babble(seconds)
    return wav16(channels, channels=2)


@pytest.mark.medium
@pytest.mark.parametrize(("channel", "seconds"), [("left", [3, 6]), (0, [3, 6]), ("right", [4]), ("mix", [9, 6])])
def test_one_channel_is_heard_on_request(
    fake_client: openai.OpenAI, call: bytes, channel: Any, seconds: list[int]
) -> None:
    asked: Any = {"model": "fake", "file": call, "language": "en", "extra_body": {"channel": channel, "track": 0}}
    answer: Any = fake_client.audio.transcriptions.create(**asked, response_format="verbose_json")
    assert [int(word) for word in answer.text.split()] == pytest.approx(seconds, abs=1)
    number = {"left": "0", "right": "1"}.get(channel, str(channel))
    taken = {"track": 0, "tracks": 1, "channel": number, "channels": 2, "damaged_s": 0.0}
    assert (answer.audio, answer.warnings) == (taken, [])
    assert not any(hasattr(segment, "channel") for segment in answer.segments)


@pytest.mark.medium
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("response_format", FORMATS)
def test_each_channel_is_heard_and_all_are_told_in_order_of_time(
    fake_client: openai.OpenAI, call: bytes, response_format: Any, stream: bool
) -> None:
    answer: Any = fake_client.audio.transcriptions.create(
        model="fake",
        file=call,
        language="en",
        response_format=response_format,
        stream=stream,
        extra_body={"channel": "each"},
        **{"timestamp_granularities": ["word", "segment"]} if response_format == "verbose_json" else {},
    )
    if stream:
        *deltas, answer = answer
        assert "".join(event.delta for event in deltas) == answer.text
        if response_format == "verbose_json":
            assert [one for event in deltas for one in event.segments] == answer.segments
            assert [one for event in deltas for one in event.words] == answer.words
    told = answer if isinstance(answer, str) else answer.text
    if response_format in CUES:
        cues = re.findall(r"^(?:channel |<v channel )(\d)(?:: |>)(\d)$", told, re.M)
        assert [number for number, _ in cues] == ["0", "1", "0"]
        told = " ".join(text for _, text in cues)
    assert [int(text) for text in told.split()] == pytest.approx([3, 4, 6], abs=1)
    if response_format == "verbose_json":
        for found in (answer.segments, answer.words):
            found = [one if isinstance(one, dict) else one.to_dict() for one in found]
            assert [one["channel"] for one in found] == [0, 1, 0]
            assert [one["start"] for one in found] == pytest.approx([0.0, 5.0, 15.0], abs=0.6)
        assert (answer.audio["channel"], answer.audio["channels"]) == ("each", 2)


@pytest.mark.medium
def test_a_damaged_upload_loses_the_packet_and_says_so(
    fake: FakeEndpoint, fake_client: openai.OpenAI, tmp_path: Path
) -> None:
    whole = encoded(tmp_path / "whole.mp3", babble(25.0), "libmp3lame", "mp3", 16_000).read_bytes()
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes(range(256)) * 4 + whole[middle + 1024 :]
    asked: Any = {"model": "fake", "file": damaged, "language": "en"}
    answer = fake_client.audio.transcriptions.with_raw_response.create(**asked, response_format="verbose_json")
    parsed: Any = answer.parse()
    assert parsed.duration == pytest.approx(25.0, abs=0.2) and 0.0 < parsed.audio["damaged_s"] < 3.0
    assert parsed.warnings and answer.headers["x-audio-warnings"] == "; ".join(parsed.warnings)
    stream: Any = fake_client.audio.transcriptions.create(**asked, response_format="verbose_json", stream=True)
    assert stream.response.headers["x-audio-warnings"] == answer.headers["x-audio-warnings"]
    assert list(stream)[-1].warnings == parsed.warnings
    *_, line = map(json.loads, (fake.folder / "access.jsonl").read_text().splitlines())
    assert line["warnings"] == parsed.warnings
    plain = fake_client.audio.transcriptions.with_raw_response.create(model="fake", file=whole, language="en")
    assert "x-audio-warnings" not in plain.headers


@pytest.mark.medium
def test_windows_of_a_long_recording_are_joined_in_order(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    seconds = [int(word) for word in send(fake_client, 100.0).split()]
    assert len(seconds) >= 4 and sum(seconds) == pytest.approx(100, abs=len(seconds))
    assert min(seconds[:-1]) >= 25 and seconds[-1] < 25  # each cut lies in the last 5 s of 30, and the rest comes last


@pytest.mark.medium
def test_the_language_is_that_of_the_file_or_on_request_of_each_window(
    fake: FakeEndpoint, fake_client: openai.OpenAI
) -> None:
    def languages(**options: Any) -> list[str | None]:
        fake.clear()
        fake_client.audio.transcriptions.create(model="fake", file=voice(110.0), prompt="Digium", **options)
        assert {clip["prompt"] for clip in fake.clips()} == {"Digium"}
        return [clip["language"] for clip in fake.clips()]

    assert languages() == [None, None, None, "en"]
    assert languages(extra_body={"language_per_window": True}) == [None] * 4


def test_who_has_no_key_is_sent_away(fake_client: openai.OpenAI) -> None:
    stranger = fake_client.with_options(api_key="guessed")
    for ask in (stranger.models.list, lambda: stranger.models.retrieve("fake"), lambda: send(stranger, 2.0)):
        with pytest.raises(openai.AuthenticationError) as raised:
            ask()
        assert raised.value.code == "invalid_api_key"
