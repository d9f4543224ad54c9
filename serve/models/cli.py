"""The verbs under ``serve models``: what a running endpoint serves, and changes to it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from http.client import HTTPResponse
from typing import Annotated, cast

import typer

from asr.errors import UserError
from asr.parsed import JsonObject
from asr.places import absolute
from serve.config import GB, is_loopback
from serve.models import key_file

TIMEOUT_S = 1800.0  # a large model is fetched, verified and loaded between two lines

_Url = Annotated[str, typer.Option("--url", envvar="WHISPERFLEET_URL", help="The endpoint.")]
_Key = Annotated[str, typer.Option("--key-file", metavar="FILE", callback=key_file.read, help=key_file.HELP)]
_Typed = Annotated[str | None, typer.Option("--key", hidden=True, callback=key_file.refuse)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON: a line for each step.")]
_Name = Annotated[str, typer.Argument(help="What clients call the model.")]
_Artifact = Annotated[str, typer.Argument(help="An artifact, checkpoint or export, as the endpoint finds it.")]
_HERE = "http://127.0.0.1:8000"


def list_models(url: _Url = _HERE, key: _Key = "", as_json: _Json = False, typed: _Typed = None) -> None:
    """Show what each name stands for, what is loaded, and who is asked how often."""
    with _opened(url, key, "/admin/models") as response:
        listing = json.load(response)
    typer.echo(json.dumps(listing) if as_json else table(listing))


def load(
    name: _Name, artifact: _Artifact, url: _Url = _HERE, key: _Key = "", as_json: _Json = False, typed: _Typed = None
) -> None:
    """Add a model under a new name."""
    _change("load", name, {"artifact": _found(artifact, url)}, (url, key, as_json))


def promote(  # noqa: PLR0913 - the options of a verb
    name: _Name,
    artifact: Annotated[str, typer.Argument(help="What is to answer; without, the candidate.")] = "",
    canary: Annotated[float | None, typer.Option(help="Answer this share of the requests only: 0.1.")] = None,
    score: Annotated[str, typer.Option(help="A manifest, as the endpoint finds it, to compare WER on.")] = "",
    max_wer: Annotated[float | None, typer.Option(help="Refuse a WER over this: 0.2.")] = None,
    margin: Annotated[float, typer.Option(help="Refuse a WER that is worse than the stable version's by more.")] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="Promote in spite of its WER.")] = False,
    url: _Url = _HERE,
    key: _Key = "",
    as_json: _Json = False,
    typed: _Typed = None,
) -> None:
    """Verify, load, warm and score an artifact, then let it answer a share of the requests or all."""
    order = {"artifact": _found(artifact, url), "canary": canary, "score": _found(score, url), "max_wer": max_wer}
    order |= {"margin": margin}
    _change("promote", name, order | {"force": force}, (url, key, as_json))


def rollback(name: _Name, url: _Url = _HERE, key: _Key = "", as_json: _Json = False, typed: _Typed = None) -> None:
    """End a canary, or go back to the version before."""
    _change("rollback", name, {}, (url, key, as_json))


def unload(name: _Name, url: _Url = _HERE, key: _Key = "", as_json: _Json = False, typed: _Typed = None) -> None:
    """Take a name out; requests in flight are answered first."""
    _change("unload", name, {}, (url, key, as_json))


def table(listing: JsonObject) -> str:
    """Return a listing for people."""
    rows = [("name", "state", "share", "loaded", "GB", "requests", "last used", "artifact")]
    for model in listing["models"]:
        last = model["last_used"]
        rows.append(
            (
                model["name"],
                model["state"],
                f"{model['share']:.0%}" if model["share"] else "-",
                f"{model['loaded']}/{listing['replicas']}",
                "-" if model["nbytes"] is None else f"{model['nbytes'] / GB:.2f}",
                str(model["requests"]),
                "-" if last is None else datetime.fromtimestamp(last).strftime("%Y-%m-%d %H:%M:%S"),
                f"{model['artifact']}@{model['fingerprint'] or '?'}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    bound = f" of {listing['memory_gb']:g}" if listing["memory_gb"] else ""
    return "\n".join([*lines, f"{listing['nbytes'] / GB:.2f}{bound} GB in a replica"])


def _change(verb: str, name: str, order: Mapping[str, object], connection: tuple[str, str, bool]) -> None:
    url, key, as_json = connection
    for line in _lines(url, key, f"/admin/models/{verb}/{urllib.parse.quote(name)}", order):
        told = json.loads(line)
        if "error" in told:
            raise UserError(told["error"]["message"])
        typer.echo(line if as_json else f"{told['step']:<8} {told['text']}")


def _found(uri: str, url: str) -> str:
    """Return what is here, for an endpoint on this machine, by its absolute path: it stands in another folder."""
    here = is_loopback(urllib.parse.urlsplit(url).hostname or "")
    return absolute(uri) if here and os.path.exists(os.path.expanduser(uri)) else uri


def _lines(url: str, key: str, path: str, order: Mapping[str, object]) -> Iterator[str]:
    with _opened(url, key, path, json.dumps(order).encode()) as response:
        for line in response:
            yield line.decode().rstrip("\n")


def _opened(url: str, key: str, path: str, data: bytes | None = None) -> HTTPResponse:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        request = urllib.request.Request(url.rstrip("/") + path, data, headers)
        return cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT_S))
    except urllib.error.HTTPError as error:
        with error:
            raise UserError(_message(error)) from None
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"no endpoint answers at {url}: {reason}", "name it with --url") from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the endpoint answers {error.code} {error.reason}: is it one of whisperfleet's?"
