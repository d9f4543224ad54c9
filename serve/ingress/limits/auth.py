"""Authentication by API keys, kept as hashes, each with a name and limits of its own.

A file of keys, or the environment variable that ``keys=env:NAME`` names, holds a YAML list::

    - name: hospital
      key: wf-Jk3...             # or sha256: its SHA-256 in hex, so that the file holds no secret
      requests_per_minute: 60    # both limits may be left out
      concurrency: 8
      admin: true                # may change the models; without, or false: may not
      metrics: true              # may read /metrics, as an admin may
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from asr.config import Section
from asr.errors import UserError
from serve.errors import ApiError
from serve.shares.ledger import Clock
from serve.shares.limit import Limit, Shares

NOBODY = "none"  # the name of who asks where no keys are asked for
MIN_KEY_LENGTH = 16  # a plain SHA-256 is safe for long random keys, and for nothing else
MINUTE_S = 60.0
_HOW = "name a YAML file, or env:NAME"
# What may be shown of a place that is not there: nobody's key looks so.
_SUFFIXES = (".yaml", ".yml", ".json", ".txt")
_VARIABLE = re.compile("[A-Z][A-Z_]*")
BUSY_RETRY_S = 1.0


class Key(Section):
    """A key as it stands in the file. An error about it never shows it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Name of its holder in logs and metrics."""
    key: str = Field("", repr=False)
    """The key itself: ``openssl rand -hex 24`` makes a good one."""
    sha256: str = Field("", repr=False, pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the key in hex, in place of the key."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Requests in any 60 seconds."""
    concurrency: int | None = Field(None, ge=1)
    """Requests at the same time."""
    admin: bool = False
    """Allow its holder to load, promote, roll back and unload models."""
    metrics: bool = False
    """Allow its holder to read ``/metrics``, which names all holders; an admin may."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Key:
        if bool(self.key) == bool(self.sha256):
            raise ValueError("give either key or sha256")
        if self.key and len(self.key) < MIN_KEY_LENGTH:
            raise ValueError(f"a key has at least {MIN_KEY_LENGTH} characters")
        return self

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the key."""
        return bytes.fromhex(self.sha256) if self.sha256 else _digest(self.key)


_KEYS = TypeAdapter(Annotated[list[Key], Field(min_length=1)])


class Holder:
    """Holder of a key: their requests in the last minute, and their requests in flight, on this ingress."""

    def __init__(self, key: Key, clock: Clock) -> None:
        self.name = key.name
        self.digest = key.digest
        self.admin = key.admin
        self.metrics = key.metrics or key.admin
        self._clock = clock
        self._asked: deque[float] = deque()
        self._present = 0
        self._a_minute = self._limit("a minute", key.requests_per_minute, self._in_a_minute, MINUTE_S)
        self._at_once = self._limit("at once", key.concurrency, lambda: self._present)

    @property
    def limits(self) -> list[Limit]:
        """The limits that the key has."""
        return [limit for limit in (self._at_once, self._a_minute) if limit is not None]

    @contextmanager
    def enter(self) -> Iterator[str]:
        """Count a request for the length of the block. Raises ApiError 429 over a limit, which counts as no request."""
        if self._at_once is not None and not self._at_once.fits():
            limit = f"{self._at_once.total} requests at the same time"
            raise ApiError(429, f"this key allows {limit}", "rate_limit_exceeded", retry_after_s=BUSY_RETRY_S)
        if self._a_minute is not None:
            self._count(self._a_minute)
        self._present += 1
        try:
            yield self.name
        finally:
            self._present -= 1

    def _count(self, limit: Limit) -> None:
        if not limit.fits():
            now = self._clock()
            # Where all of them were made elsewhere: one leaves the minute in so long on average.
            later_s = self._asked[0] + MINUTE_S - now if self._asked else MINUTE_S / limit.total
            what = f"this key allows {limit.total} requests in a minute"
            later_s = min(max(later_s, 0.001), MINUTE_S)  # sums of floats may miss by a little
            raise ApiError(429, what, "rate_limit_exceeded", retry_after_s=later_s)
        self._asked.append(self._clock())

    def _in_a_minute(self) -> int:
        now = self._clock()
        while self._asked and self._asked[0] <= now - MINUTE_S:
            self._asked.popleft()
        return len(self._asked)

    def _limit(self, what: str, total: int | None, used: Callable[[], int], keep_s: float = 0.0) -> Limit | None:
        return None if total is None else Limit(f"key {self.name} {what}", total, used, keep_s, standing=False)


class Keyring:
    """All keys. Without any, everybody may ask, as ``none``."""

    def __init__(self, keys: Sequence[Key] = (), clock: Clock = time.monotonic) -> None:
        self._holders = [Holder(key, clock) for key in keys]

    def share(self, shares: Shares) -> None:
        """Have all ingresses together keep the keys' limits."""
        for holder in self._holders:
            for limit in holder.limits:
                shares.add(limit)

    async def room(self, authorization: str | None) -> None:
        """Return once the key's limits have room for a request here, or nowhere. Authorise before anything else.

        Raises ApiError 401 as ``holder`` does.
        """
        holder = self.holder(authorization)
        for limit in holder.limits if holder is not None else []:
            await limit.room()

    def holder(self, authorization: str | None) -> Holder | None:
        """Return whose key the header ``Authorization: Bearer ...`` holds, or None where no keys are asked for.

        Raises ApiError 401 where it holds none or an unknown one.
        """
        if not self._holders:
            return None
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(401, "send an API key: Authorization: Bearer KEY", "missing_api_key")
        asked = _digest(key.strip())
        # All are compared, each in constant time, so that the answer's time tells nothing of them.
        known = [holder for holder in self._holders if hmac.compare_digest(holder.digest, asked)]
        if not known:
            raise ApiError(401, "this API key is not known here", "invalid_api_key")
        return known[0]

    @contextmanager
    def authorise(self, authorization: str | None) -> Iterator[str]:
        """Yield the name of who asks, and count their request for the length of the block.

        Raises ApiError 401 for no key or an unknown one, 429 over the key's limits.
        """
        holder = self.holder(authorization)
        if holder is None:
            yield NOBODY
            return
        with holder.enter() as name:
            yield name


def read_keys(source: str, clock: Clock = time.monotonic) -> Keyring:
    """Read the keys of ``source``: a file's path, ``env:NAME``, or nothing for none.

    Raises UserError for what is missing or wrong, without showing any of it.
    """
    if not source:
        return Keyring()
    try:
        keys = _KEYS.validate_python(yaml.load(_text(source), yaml.BaseLoader))
    except yaml.YAMLError:
        raise UserError(f"keys={source} is no YAML", "a list of {name, key or sha256}") from None
    except ValidationError as error:
        mistakes = [f"keys={source}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError("\n".join(mistakes)) from None
    for what in ("name", "digest"):
        if len({getattr(key, what) for key in keys}) < len(keys):
            raise UserError(f"keys={source}: two keys have the same {'key' if what == 'digest' else what}")
    return Keyring(keys, clock)


def _text(source: str) -> str:
    if source.startswith("env:"):
        name = source.removeprefix("env:")
        if name not in os.environ:
            shown = f" '{name}'" if _VARIABLE.fullmatch(name) else " of that name"
            raise UserError(f"keys=env:...: there is no environment variable{shown}")
        return os.environ[name]
    if not source.lower().endswith(_SUFFIXES) and not os.path.exists(os.path.expanduser(source)):
        raise UserError("keys: there is no such file, and it is not shown: it may be a key itself", _HOW)
    try:
        return Path(source).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"keys={source} cannot be read: {reason}") from None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
