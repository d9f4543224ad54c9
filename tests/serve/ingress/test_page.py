"""The page as visitors meet it: Chromium on the real endpoint, and on one that says what no engine here would."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from asr.audio.decode import decode, encode_flac
from asr.language import NAMES
from asr.utterance import Utterance
from serve.ingress.page import router
from tests.serve.conftest import KEY, FakeEndpoint
from tests.serve.fakes import noise, voice

pytestmark = pytest.mark.medium

DEMANDED = "WHISPERFLEET_TEST_BROWSER"  # set to 1 where the page must not go untested
PATIENCE_S = 60.0


def program(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


@dataclass
class Scripted:
    """An endpoint that answers as it is told to; ``asked`` has the fields of the last request."""

    url: str = ""
    respond: Callable[[], Response] = Response
    asked: dict[str, Any] = field(default_factory=dict)
    more: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()
        app.include_router(router)

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {"data": [{"id": "one"}, {"id": "two"}, *self.more]}

        @app.post("/v1/audio/{task}")
        async def audio(task: str, request: Request) -> Response:
            async with request.form() as form:
                fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
                sent = await form["file"].read()  # type: ignore[union-attr]
            self.asked = {"task": task, "fields": fields, "file": sent, "key": request.headers.get("authorization")}
            return self.respond()

        return app


def streamed(*events: dict[str, Any], piece_bytes: int = 3) -> Callable[[], Response]:
    """Server-sent events in pieces that fall on no boundary of theirs, not even on characters'."""
    content = "".join(f"event: any\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events).encode()
    pieces = [content[start : start + piece_bytes] for start in range(0, len(content), piece_bytes)]
    return lambda: StreamingResponse(iter(pieces), media_type="text/event-stream")


def heard(text: str, words: str | None = None, start_s: float = 0.0) -> list[dict[str, Any]]:
    """A delta with one segment in which each word lasts half a second, and the done event."""
    timed = (text if words is None else words).split()
    times = [(start_s + index / 2, start_s + (index + 1) / 2) for index in range(len(timed))]
    spoken = [{"word": word, "start": start, "end": end} for word, (start, end) in zip(timed, times, strict=True)]
    segments = [{"start": start_s, "end": start_s + max(len(timed), 1) / 2, "text": f" {text}"}]
    delta = {"type": "transcript.text.delta", "delta": text, "end": 5.0, "duration": 20.0}
    done = {"type": "transcript.text.done", "text": text, "duration": 20.0, "language": "english"}
    return [delta | {"segments": segments, "words": spoken}, done]


class Page:
    """What a visitor does with the page, and sees of it."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get_log("browser")  # of the page before
        browser.get(url)
        browser.execute_script("sessionStorage.clear()")
        browser.refresh()

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).get_property("textContent"))

    def until(self, condition: Callable[[], object]) -> None:
        WebDriverWait(self.browser, PATIENCE_S, poll_frequency=0.05).until(lambda _: condition())

    def transcribe(self, audio: Path, expect: str = "Done") -> None:
        self.find("#file").send_keys(str(audio))
        self.until(self.find("#transcribe").is_enabled)
        self.find("#transcribe").click()
        self.until(lambda: expect in self.text("#status"))

    def refused(self, audio: Path) -> str:
        self.transcribe(audio, expect="")
        self.until(lambda: self.text("#error"))
        return self.text("#error")

    def words(self) -> list[str]:
        return [str(word.get_property("textContent")) for word in self.browser.find_elements(By.CLASS_NAME, "word")]

    def lines(self) -> list[str]:
        return [line.text for line in self.browser.find_elements(By.CSS_SELECTOR, "#transcript p")]

    def player(self, attribute: str) -> Any:
        return self.browser.execute_script(f"return document.getElementById('audio').{attribute}")

    def download(self, kind: str, folder: Path) -> str:
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        self.find(f"[data-format={kind}]").click()
        self.until(lambda: list(folder.glob(f"*.{kind}")))
        (path,) = folder.glob(f"*.{kind}")
        return path.read_text(encoding="utf-8")

    def complaints(self) -> list[str]:
        """What the browser's console has, refused requests apart: those are answers of the endpoint."""
        lines = [entry["message"] for entry in self.browser.get_log("browser")]
        return [line for line in lines if "the server responded with a status of" not in line]


@pytest.fixture(scope="module")
def speech(english_clips: list[Utterance]) -> Path:
    return Path(str(english_clips[0].audio))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Iterator[Chrome]:
    """Chromium without a window, whose microphone hears real speech. Where there is none, the test is skipped."""
    chromium = program("chromium", "chromium-browser", "google-chrome")
    driver = program("chromedriver")
    if chromium is None or driver is None:
        missing = "no Chromium with chromedriver (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get(DEMANDED) == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("browser")
    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-gpu",
        "autoplay-policy=no-user-gesture-required",
        f"user-data-dir={folder / 'profile'}",
        "use-fake-ui-for-media-stream",
        "use-fake-device-for-media-stream",
        f"use-file-for-fake-audio-capture={as_wav(speech, folder)}",
    ):
        options.add_argument(f"--{argument}")
    with Chrome(options, Service(driver)) as started:
        yield started


def as_wav(audio: Path, folder: Path) -> Path:
    samples = (decode(str(audio)) * 32_767).astype("<i2").tobytes()
    rate, pairs = (16_000).to_bytes(4, "little"), (32_000).to_bytes(4, "little")
    head = b"WAVEfmt " + (16).to_bytes(4, "little") + bytes([1, 0, 1, 0]) + rate + pairs + bytes([2, 0, 16, 0])
    chunks = head + b"data" + len(samples).to_bytes(4, "little") + samples
    path = folder / "microphone.wav"
    path.write_bytes(b"RIFF" + len(chunks).to_bytes(4, "little") + chunks)
    return path


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    script = Scripted()
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(script.app(), listener):
        script.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield script


@contextmanager
def serving(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Chrome, scripted: Scripted) -> Page:
    """The page on the scripted endpoint."""
    return Page(browser, scripted.url)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds that nobody listens to."""
    path = tmp_path_factory.mktemp("quiet") / "my talk.flac"
    path.write_bytes(noise(20.0))
    return path


class Links(HTMLParser):
    """Collects what a document loads, and what its policy would not let run."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in dict(attrs)) else []


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        yield client


def test_the_page_and_all_that_it_loads_are_small_and_from_here(http: TestClient) -> None:
    answers = [http.get("/")]
    links = Links(answers[0].text)
    assert len(links.loaded) == 3 and not links.inline
    answers += [http.get(f"/{link}") for link in links.loaded]
    assert [answer.status_code for answer in answers] == [200] * 4
    kinds = ["text/html", "image/svg+xml", "text/css", "text/javascript"]
    assert [answer.headers["content-type"].partition(";")[0] for answer in answers] == kinds
    assert sum(len(answer.content) for answer in answers) < 30_000
    for answer in answers:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("name", ["page.py", "..%2Fpage.py", "index.html.bak", "%2e%2e"])
def test_no_other_file_is_given_away(http: TestClient, name: str) -> None:
    assert http.get(f"/page/{name}").status_code == 404


@pytest.mark.slow
def test_languages_are_whispers_in_the_order_of_their_names(page: Page) -> None:
    options = Select(page.find("#language")).options
    assert {option.get_property("value"): option.text for option in options} == {"": "Detect"} | NAMES
    assert [option.text for option in options[1:]] == sorted(NAMES.values())


SPELLER = {"id": "spelt", "languages": ["it"], "cannot": ["language detection", "prompt", "temperature", "translation"]}
WHISPER = {"id": "heard", "languages": ["it", "nl"], "cannot": ["keywords"]}
ANY = {"id": "any", "languages": [], "cannot": SPELLER["cannot"]}


def test_the_page_offered_whispers_languages_and_translation_of_every_model(
    browser: Chrome, scripted: Scripted, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "more", [SPELLER, WHISPER, ANY])
    page = Page(browser, scripted.url)
    page.until(lambda: len(Select(page.find("#model")).options) == 5)

    def offered(model: str) -> tuple[list[str], int, bool]:
        Select(page.find("#model")).select_by_value(model)
        languages = [option.text for option in Select(page.find("#language")).options]
        return languages[:3], len(Select(page.find("#task")).options), page.find("#keywords").is_displayed()

    assert offered("heard") == (["Detect", "Dutch", "Italian"], 2, False)
    Select(page.find("#language")).select_by_visible_text("Dutch")
    Select(page.find("#task")).select_by_value("translations")
    assert offered("any") == (["Not named", *sorted(NAMES.values())[:2]], 1, True)
    assert Select(page.find("#language")).first_selected_option.text == "Dutch", "what is chosen stays where it can"
    assert offered("spelt") == (["Italian"], 1, True)
    page.find("#keywords").send_keys("Digium, Asterisk ,")
    scripted.respond = streamed(*heard("bene"))
    page.transcribe(quiet)
    assert scripted.asked["task"] == "transcriptions"
    assert scripted.asked["fields"][:4] == [
        ("model", "spelt"),
        ("language", "it"),
        ("keywords[]", "Digium"),
        ("keywords[]", "Asterisk"),
    ]
    assert offered("one") == (["Detect", *sorted(NAMES.values())[:2]], 2, False)
    page.transcribe(quiet)
    assert "keywords[]" not in dict(scripted.asked["fields"])


def test_every_control_has_a_name(page: Page) -> None:
    controls = page.browser.find_elements(By.CSS_SELECTOR, "button, input, select, audio, progress, summary")
    assert len(controls) > 12
    for control in controls:
        page.browser.execute_script(
            "for (let n = arguments[0]; n; n = n.parentElement) [n.hidden, n.open] = [false, true]", control
        )
        assert control.accessible_name, control.get_property("outerHTML")


def test_what_is_chosen_is_what_is_asked(page: Page, scripted: Scripted, quiet: Path) -> None:
    scripted.respond = streamed(*heard("bene"))
    page.until(lambda: len(Select(page.find("#model")).options) == 2)
    Select(page.find("#model")).select_by_value("two")
    Select(page.find("#language")).select_by_visible_text("Italian")
    Select(page.find("#task")).select_by_value("translations")
    Select(page.find("#channel")).select_by_visible_text("Left")
    page.transcribe(quiet)
    assert scripted.asked["task"] == "translations"
    assert scripted.asked["fields"] == [
        ("model", "two"),
        ("language", "it"),
        ("channel", "left"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "segment"),
        ("timestamp_granularities[]", "word"),
        ("stream", "true"),
    ]
    assert scripted.asked["file"] == quiet.read_bytes()
    assert scripted.asked["key"] is None


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("ދިވެހި ރާއްޖެ، ސާފު.", None, ["ދިވެހި", "ރާއްޖެ،", "ސާފު."]),
        ("مرحبا 2024 بكم", None, ["مرحبا", "2024", "بكم"]),
        ("今日は良い天気", "今日 は 良い 天気", ["今日", "は", "良い", "天気"]),
        ("<img src=x onerror=alert(1)> &amp;", None, ["<img", "src=x", "onerror=alert(1)>", "&amp;"]),
        ("no times of words", "", ["no times of words"]),
        ("one two three", "one 2 three", ["one", "three"]),
    ],
    ids=["thaana", "arabic", "unspaced", "markup", "untimed", "unfound"],
)
def test_text_in_any_script_is_shown_as_it_is(
    page: Page, scripted: Scripted, quiet: Path, text: str, words: str | None, shown: list[str]
) -> None:
    scripted.respond = streamed(*heard(text, words))
    page.transcribe(quiet)
    assert page.words() == shown
    assert page.lines() == [text]
    direction = page.find("#transcript p").value_of_css_property("direction")
    assert direction == ("rtl" if "\u0590" < text[0] < "\u07c0" else "ltr")
    assert not page.complaints()


def test_a_word_is_heard_when_it_is_clicked(page: Page, scripted: Scripted, quiet: Path) -> None:
    scripted.respond = streamed(*heard("we begin late", start_s=8.0))
    page.transcribe(quiet)
    begin = page.browser.find_elements(By.CLASS_NAME, "word")[1]
    begin.click()
    page.until(lambda: page.player("currentTime") >= 8.5)
    assert page.player("currentTime") < 12.0 and not page.player("paused")
    page.until(lambda: page.browser.find_elements(By.CLASS_NAME, "now"))


def test_words_can_be_reached_without_a_mouse(page: Page, scripted: Scripted, quiet: Path) -> None:
    scripted.respond = streamed(*heard("one two three", start_s=4.0))
    page.transcribe(quiet)
    page.browser.execute_script("document.getElementById('audio').focus()")
    stops = page.browser.find_elements(By.CSS_SELECTOR, ".word[tabindex='0']")
    assert [stop.text for stop in stops] == ["one"]
    stops[0].send_keys(Keys.ARROW_RIGHT)
    for key, reached in [(Keys.ARROW_RIGHT, "three"), (Keys.ARROW_RIGHT, "three"), (Keys.HOME, "one")]:
        page.browser.switch_to.active_element.send_keys(key)
        assert page.browser.switch_to.active_element.text == reached
    page.browser.switch_to.active_element.send_keys(Keys.END, Keys.ENTER)
    page.until(lambda: page.player("currentTime") >= 5.0)
    scripted.respond = streamed(*heard("ދިވެހި ރާއްޖެ"))
    page.transcribe(quiet)
    page.find(".word").send_keys(Keys.ARROW_LEFT)
    assert page.browser.switch_to.active_element.text == "ރާއްޖެ"


def test_progress_is_told_while_later_words_are_still_awaited(page: Page, scripted: Scripted, quiet: Path) -> None:
    first, done = heard("first words")
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield f"data: {json.dumps(first)}\n\n".encode()
        go_on.wait(PATIENCE_S)
        yield f"data: {json.dumps(done)}\n\n".encode()

    scripted.respond = lambda: StreamingResponse(slowly(), media_type="text/event-stream")
    try:
        page.transcribe(quiet, expect="Transcribed 0:05 of 0:20")
        assert page.words() == ["first", "words"]
        assert float(str(page.find("#progress").get_property("value"))) == 0.25
        assert not page.find("#downloads").is_displayed()
    finally:
        go_on.set()
    page.until(lambda: page.text("#status") == "Done: 0:20, English, 2 words")
    assert not page.find("#progress").is_displayed() and page.find("#downloads").is_displayed()


def test_what_is_missing_from_the_sound_is_told_below(page: Page, scripted: Scripted, quiet: Path) -> None:
    delta, done = heard("bene")
    scripted.respond = streamed(delta, done | {"warnings": ["not decodable: <b>1 s</b>", "track 1 was taken"]})
    page.transcribe(quiet)
    assert page.text("#warnings") == "Note: not decodable: <b>1 s</b>. Note: track 1 was taken."
    scripted.respond = streamed(delta, done)
    page.transcribe(quiet, expect="")
    page.until(lambda: "Done" in page.text("#status"))
    assert page.text("#warnings") == ""


def test_what_was_heard_stays_when_it_is_cancelled(page: Page, scripted: Scripted, quiet: Path) -> None:
    left = threading.Event()

    async def forever() -> Any:
        try:
            yield f"data: {json.dumps(heard('so far')[0])}\n\n".encode()
            while True:
                await asyncio.sleep(0.05)
                yield b": still here\n\n"
        finally:
            left.set()

    scripted.respond = lambda: StreamingResponse(forever(), media_type="text/event-stream")
    page.transcribe(quiet, expect="Transcribed")
    page.find("#cancel").click()
    page.until(lambda: page.text("#status") == "Cancelled")
    assert left.wait(PATIENCE_S), "the endpoint was not told"
    assert page.words() == ["so", "far"] and not page.text("#error")
    assert page.find("#transcribe").is_enabled() and page.find("#downloads").is_displayed()


def fault(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "t", "param": None, "code": "c"}}


@pytest.mark.parametrize(
    ("respond", "shown"),
    [
        (
            lambda: JSONResponse(fault("64 requests are here already"), 429, {"Retry-After": "12"}),
            "64 requests are here already. Try again in 12 seconds.",
        ),
        (lambda: JSONResponse(fault("no audio in it"), 400), "no audio in it"),
        (lambda: Response("<h1>Bad Gateway</h1>", 502), "502 Bad Gateway"),
        (streamed(heard("half")[0], fault("the request took too long")), "the request took too long"),
        (streamed(heard("half")[0]), "the answer ended before the recording did"),
    ],
    ids=["busy", "refused", "gateway", "in the stream", "cut off"],
)
def test_what_goes_wrong_is_told_in_a_line(
    page: Page, scripted: Scripted, quiet: Path, respond: Callable[[], Response], shown: str
) -> None:
    scripted.respond = respond
    assert page.refused(quiet) == shown
    assert page.find("#error").get_attribute("role") == "alert"
    page.until(page.find("#transcribe").is_displayed)
    scripted.respond = streamed(*heard("better now"))
    page.transcribe(quiet)
    assert (page.text("#error"), page.words()) == ("", ["better", "now"])


def test_an_endpoint_that_has_gone_is_told(browser: Chrome, quiet: Path) -> None:
    script = Scripted()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with serving(script.app(), listener):
            page = Page(browser, f"http://127.0.0.1:{listener.getsockname()[1]}")
            page.until(lambda: page.find("#model").get_property("value"))
        listener.close()
        assert page.refused(quiet).startswith("The endpoint cannot be reached")


def test_a_file_can_be_dropped(page: Page, scripted: Scripted) -> None:
    scripted.respond = streamed(*heard("dropped"))
    page.browser.execute_script(
        """
        const dropped = new DataTransfer();
        dropped.items.add(new File(["some bytes"], "talk.ogg"));
        const aim = document.querySelector("#drop p");
        for (const kind of ["dragover", "drop"])
          aim.dispatchEvent(new DragEvent(kind, { dataTransfer: dropped, bubbles: true, cancelable: true }));
        """
    )
    assert page.text("#chosen").startswith("talk.ogg")
    page.until(page.find("#transcribe").is_enabled)
    page.find("#transcribe").click()
    page.until(lambda: page.words() == ["dropped"])
    assert scripted.asked["file"] == b"some bytes"


@pytest.mark.slow
def test_a_key_is_asked_for_and_kept_for_this_tab_only(browser: Chrome, fake: FakeEndpoint, tmp_path: Path) -> None:
    (tmp_path / "talk.flac").write_bytes(voice(9.0))
    page = Page(browser, f"{fake.url}/")
    page.until(lambda: page.text("#error") == "send an API key: Authorization: Bearer KEY")
    assert page.find("#key").is_displayed(), "the field for the key opens"
    page.find("#key").send_keys(KEY, Keys.ENTER)
    page.until(lambda: page.find("#model").get_property("value") == "fake")
    assert not page.text("#error")
    page.transcribe(tmp_path / "talk.flac")
    assert page.words() == ["9"]
    page.browser.refresh()
    page.until(lambda: page.find("#model").get_property("value") == "fake")
    kept = "return [Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]"
    assert page.browser.execute_script(kept) == [[KEY], [], "", f"{fake.url}/"]


@pytest.fixture(scope="module")
def talk(english_clips: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of speech: more than one window."""
    pause = np.zeros(8_000, np.float32)
    clips = [part for clip in english_clips[3:10] for part in (decode(str(clip.audio)), pause)]
    path = tmp_path_factory.mktemp("talk") / "talk.flac"
    path.write_bytes(encode_flac(np.concatenate(clips)))
    return path


@pytest.mark.slow
def test_real_speech_becomes_words_and_the_endpoints_own_subtitles(
    browser: Chrome, endpoint: str, client: openai.OpenAI, talk: Path, tmp_path: Path
) -> None:
    page = Page(browser, endpoint)
    page.transcribe(talk)
    text = client.audio.transcriptions.create(
        model="tiny", file=talk, response_format="verbose_json", timestamp_granularities=["segment", "word"]
    ).text
    assert " ".join(" ".join(page.lines()).split()) == " ".join(text.split())
    assert [word for word in page.words() if word] == text.split(), "each word can be clicked"
    for kind in ("srt", "vtt"):
        assert page.download(kind, tmp_path) == client.audio.transcriptions.create(
            model="tiny", file=talk, response_format=kind
        )
    assert page.download("txt", tmp_path) == f"{text}\n"
    hosts = "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).protocol + entry.name)"
    loaded = page.browser.execute_script(hosts)
    assert len(loaded) >= 4
    assert all(address.startswith(("blob:", f"http:{endpoint}/")) for address in loaded)
    assert not page.complaints()


@pytest.mark.slow
def test_what_the_microphone_hears_becomes_words_that_can_be_heard(browser: Chrome, endpoint: str) -> None:
    page = Page(browser, endpoint)
    page.until(lambda: page.find("#model").get_property("value"))
    page.find("#record").click()
    page.until(lambda: "0:04" in page.text("#record"))
    assert not page.find("#transcribe").is_enabled()
    page.find("#record").click()
    page.until(page.find("#transcribe").is_enabled)
    assert page.text("#chosen").startswith("recording.")
    page.find("#transcribe").click()
    page.until(lambda: "Done" in page.text("#status"))
    assert len(page.words()) >= 3
    page.until(lambda: page.player("duration") is not None and 3.0 < page.player("duration") < 30.0)
    last = page.browser.find_elements(By.CLASS_NAME, "word")[-1]
    last.click()
    page.until(lambda: page.player("currentTime") > 1.0)
    assert not page.complaints()
