"""Jobs on a cluster by the names that people give them; a name submitted again is its next attempt."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from asr.errors import UserError
from cluster import auth
from cluster.session import knock

ENDED = frozenset({"succeeded", "failed", "stopped"})
_ADDRESS = re.compile(r"(?P<scheme>https?://)?[^/\s:]+(?P<port>:\d+)?(/\S*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_KEY = "whisperfleet"  # of a job's metadata
_POLL_S, _PATIENCE_S = 0.5, 60.0
_API_SERVER = "RAY_API_SERVER_ADDRESS"


@dataclass(frozen=True)
class JobRequest:
    """Request for a job: a verb's argv, the base of its relative paths, its packages and its commit.

    ``asked`` names what travels along that git does not track.
    """

    words: tuple[str, ...]
    storage: str = ""
    packages: str = "pinned"
    commit: str = ""
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmittedJob:
    """An attempt at the job ``name``. Times: seconds since 1970. A job not submitted here is named by its id."""

    name: str
    attempt: int
    id: str
    state: str
    order: JobRequest
    started: float | None
    ended: float | None
    exit_code: int | None
    message: str

    @property
    def has_ended(self) -> bool:
        """Return whether the job has ended."""
        return self.state in ENDED

    @property
    def code(self) -> int:
        """The exit code of a command that followed it to its end: its own, 1 where it has none (128 + a signal)."""
        if self.state == "succeeded":
            return 0
        code = self.exit_code or 1
        return code if code > 0 else 128 - code

    def row(self) -> dict[str, object]:
        """Return the job as a JSON object."""
        return asdict(self)


def job_of(details: JobDetails) -> SubmittedJob:
    """Return what Ray knows of a job, in our terms."""
    known = json.loads((details.metadata or {}).get(_KEY, "{}"))
    given = known.get("order", {"words": shlex.split(details.entrypoint)})
    return SubmittedJob(
        known.get("name", details.submission_id),
        known.get("attempt", 1),
        details.submission_id,
        str(details.status.value).lower(),
        JobRequest(**given | {name: tuple(given.get(name, ())) for name in ("words", "asked")}),
        details.start_time / 1000 if details.start_time else None,
        details.end_time / 1000 if details.end_time else None,
        details.driver_exit_code,
        details.message or "",
    )


class Cluster:
    """The jobs of the cluster whose dashboard is at ``address``. Every call may raise UserError."""

    def __init__(self, address: str) -> None:
        self.address = address
        with self._explained():
            knock(address)
            with _only(address):
                self._client = JobSubmissionClient(address, headers=auth.headers())

    def jobs(self) -> list[SubmittedJob]:
        """Return all submitted jobs, the latest first."""
        with self._explained():
            found = [job_of(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started or float("inf"), job.attempt), reverse=True)

    def find(self, name: str) -> SubmittedJob:
        """Return the latest attempt at ``name``, or the job with this id."""
        found = self.jobs()
        for job in found:
            if name in (job.name, job.id):
                return job
        names = ", ".join(dict.fromkeys(job.name for job in found)) or "none"
        raise UserError(f"no job '{name}' on {self.address}", f"there are: {names}")

    def submit(self, name: str, entrypoint: str, order: JobRequest, runtime_env: Mapping[str, object]) -> SubmittedJob:
        """Start ``entrypoint`` as the next attempt at ``name``. An attempt that has not ended is in the way."""
        if not _NAME.fullmatch(name):
            raise UserError(f"'{name}' cannot be a job's name", "letters, digits, . _ -, at most 63")
        earlier = [job for job in self.jobs() if job.name == name]
        if running := next((job for job in earlier if not job.has_ended), None):
            raise UserError(
                f"a job called '{name}' is {running.state} on {self.address}",
                f"choose another --name, or: whisperfleet logs {name} --follow, whisperfleet stop {name}",
            )
        attempt = 1 + max((job.attempt for job in earlier), default=0)
        known = {"name": name, "attempt": attempt, "order": asdict(order)}
        with self._explained():
            made = self._client.submit_job(  # an id is taken once: of two who submit at the same time, one is refused
                entrypoint=entrypoint,
                submission_id=f"{name}-{attempt}",
                runtime_env=dict(runtime_env),
                metadata={_KEY: json.dumps(known)},
            )
            return job_of(self._client.get_job_info(made))

    def stop(self, job: SubmittedJob) -> SubmittedJob:
        """Stop a job and wait until it has ended."""
        with self._explained():
            self._client.stop_job(job.id)
        return self._ended(job)

    def logs(self, job: SubmittedJob) -> str:
        """Return what a job has printed so far."""
        with self._explained():
            return str(self._client.get_job_logs(job.id))

    def follow(self, job: SubmittedJob, show: Callable[[str], None]) -> SubmittedJob:
        """Give ``show`` what a job has printed and prints, and return the job when it has ended.

        Where the connection breaks it is made again: nothing is shown twice.
        """
        shown, until = 0, time.monotonic() + _PATIENCE_S

        async def read() -> None:
            nonlocal shown, until
            seen = 0
            async with aclosing(self._client.tail_job_logs(job.id)) as stream:
                async for text in stream:
                    new = text[max(0, shown - seen) :]
                    seen += len(text)
                    if new:
                        shown, until = shown + len(new), time.monotonic() + _PATIENCE_S
                        show(new)

        while True:
            try:
                asyncio.run(read())  # which also makes of Ctrl-C an end in good order
                return self._ended(job)
            except (OSError, RuntimeError, aiohttp.ClientError) as error:
                if time.monotonic() > until:
                    raise UserError(f"{self.address} no longer answers: {error}", "the job may go on") from None
                time.sleep(_POLL_S)

    def _ended(self, job: SubmittedJob) -> SubmittedJob:
        while True:
            with self._explained():
                now = job_of(self._client.get_job_info(job.id))
            if now.has_ended:
                return now
            time.sleep(_POLL_S)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except AuthenticationError as error:
            missing = "required" in str(error).splitlines()[0]
            what = "asks for a token, and none was found" if missing else "does not take this token"
            raise UserError(f"the cluster at {self.address} {what}", auth.REMEDY) from None
        except (OSError, requests.RequestException) as error:  # requests' errors are OSErrors, but for bad addresses
            raise UserError(
                f"no cluster answers at {self.address}: {_reason(error)}",
                "is it up? whisperfleet cluster up starts one here",
            ) from None
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the cluster at {self.address} refused: {_reason(error)}") from None


def dashboard(given: str | None, local: str | None) -> str:
    """Return the address of a cluster's dashboard: as ``given``, as the environment says, or that of a ``local`` one.

    Raises UserError where that is Ray's own address (``ray://``, ``auto``), which takes no jobs.
    """
    named = {"--address": given, _API_SERVER: os.environ.get(_API_SERVER), "RAY_ADDRESS": os.environ.get("RAY_ADDRESS")}
    source, address = next(((key, value) for key, value in named.items() if value), ("", local))
    if not address:
        raise UserError("which cluster? no --address, no RAY_ADDRESS, and none of whisperfleet cluster up is running")
    written = _ADDRESS.fullmatch(address)
    bare = source != "--address"  # what others set without http:// is Ray's own port
    if not written or not (written["scheme"] or (written["port"] and not bare)):
        raise UserError(
            f"{source}={address}: jobs are sent to a cluster's dashboard",
            "give its address: --address http://HEAD:8265",
        )
    return address.rstrip("/") if written["scheme"] else f"http://{address}".rstrip("/")


@contextmanager
def _only(address: str) -> Iterator[None]:
    """Keep Ray's client from preferring RAY_ADDRESS to the address that it is given, and from telling about it."""
    before = os.environ.get(_API_SERVER)
    os.environ[_API_SERVER] = address
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_API_SERVER]
        else:
            os.environ[_API_SERVER] = before


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
