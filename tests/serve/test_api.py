"""The endpoint as customers meet it: the official client, HTTP, Ray Serve, a real checkpoint, real speech."""

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

from asr.audio import decode, encode_flac
from asr.scoring import score
from asr.utterance import Utterance
from serve.autoscaling import QUEUED_AUDIO
from tests.asr.sounds import encoded, wav16
from tests.serve.conftest import ADMIN_KEY, KEY, LIMITS, FakeEndpoint, metrics
from tests.serve.fakes import POISON, POISON_S, babble, noise, voice


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
MANY = wav16(np.zeros((16_000, 9), np.float32), channels=9)


@pytest.mark.parametrize(
    ("file", "options", "error", "code", "param"),
    [
        (b"", {}, openai.BadRequestError, "empty_file", "file"),
        (("a.wav", b"these are words, not sounds"), {}, openai.BadRequestError, "not_audio", "file"),
        (("a.wav", NAN), {}, openai.BadRequestError, "non_finite", "file"),
        (SHORT, {}, openai.BadRequestError, "too_short", "file"),
        (noise(90.0), {}, openai.BadRequestError, "too_long", "file"),
        (noise(90.0), {"stream": True}, openai.BadRequestError, "too_long", "file"),
        (None, {"model": "large"}, openai.NotFoundError, "model_not_found", "model"),
        (None, {"language": "englsh"}, openai.BadRequestError, "invalid_language", "language"),
        (None, {"language": "it"}, openai.BadRequestError, "invalid_language", "language"),
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
    while in_house(fake):
        pass
    *_, line = map(json.loads, (fake.folder / "access.jsonl").read_text().splitlines())
    assert line["warnings"] == parsed.warnings
    plain = fake_client.audio.transcriptions.with_raw_response.create(model="fake", file=whole, language="en")
    assert "x-audio-warnings" not in plain.headers


def test_windows_of_a_long_recording_are_joined_in_order(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    seconds = [int(word) for word in send(fake_client, 100.0).split()]
    assert len(seconds) >= 4 and sum(seconds) == pytest.approx(100, abs=len(seconds))
    assert min(seconds[:-1]) >= 25 and seconds[-1] < 25  # each cut lies in the last 5 s of 30, and the rest comes last


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


def in_house(fake: FakeEndpoint) -> int:
    counted = metrics(fake.url)
    return int(float(counted.partition('whisperfleet_requests_in_house{model="fake"} ')[2].split()[0]))


def test_a_listener_that_leaves_is_missed_before_the_next_batch(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    with fake.hold(after=1):
        stream = fake_client.audio.transcriptions.create(model="fake", file=voice(600.0), language="en", stream=True)
        next(stream)
        while len(fake.batches()) < 2:
            pass
        assert in_house(fake) == 1
        stream.close()
        while in_house(fake):
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


def test_who_has_no_key_is_sent_away(fake: FakeEndpoint) -> None:
    with openai.OpenAI(base_url=f"{fake.url}/v1", api_key="guessed", max_retries=0) as stranger:
        for ask in (stranger.models.list, lambda: stranger.models.retrieve("fake"), lambda: send(stranger, 2.0)):
            with pytest.raises(openai.AuthenticationError) as raised:
                ask()
            assert raised.value.code == "invalid_api_key"


def test_the_access_log_names_requests_and_holds_no_words(fake: FakeEndpoint, fake_client: openai.OpenAI) -> None:
    stream = fake_client.audio.transcriptions.create(**GIVEN, stream=True, extra_headers={"X-Request-Id": "mine-1"})
    assert set(stream.response.headers["x-request-id"].split(", ")) == {"mine-1"}
    assert list(stream)[-1].type == "transcript.text.done"
    while in_house(fake):
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
    answer = httpx.get(f"{fake.url}/readyz/", headers={"Host": "evil.example"})
    assert answer.status_code == 404 and "evil" not in f"{answer.headers}{answer.text}"


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
