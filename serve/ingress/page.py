"""Web page at ``/``: upload or record audio, see the words arrive, click a word to play it, download subtitles."""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Response

from asr.language import NAMES
from serve.ingress.openai.openapi import answers

_FOLDER = Path(__file__).parent / "static"
_LANGUAGES = "<!-- languages -->"
_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
# No outside host, no inline script: what a model wrote can never become one. The player is given the visitor's own
# file, which has a blob: address.
_POLICY = "default-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",  # another version of the endpoint brings another page
}

router = APIRouter()


# `include_router(router)` is all that an app needs. The links within the page are relative: it works under any prefix.
@router.get("/", **answers(None, media_type="text/html"))
async def index() -> Response:
    """Return the page on which a person tries the endpoint."""
    return _answer("index.html")


@router.get("/page/{name}", **answers(None, 404, media_type="*/*"))
async def part(name: str) -> Response:
    """Return what the page loads: its style, its script and its icon."""
    if name not in _TYPES:
        raise HTTPException(404)
    return _answer(name)


def _answer(name: str) -> Response:
    return Response(_content(name), media_type=_TYPES[name], headers=_HEADERS)


@cache
def _content(name: str) -> str:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return text.replace(_LANGUAGES, _options()) if name == "index.html" else text


def _options() -> str:
    """Return an ``<option>`` for each language, by its name."""
    named = sorted(NAMES.items(), key=lambda item: item[1])
    return "".join(f'<option value="{code}">{html.escape(name)}</option>' for code, name in named)
