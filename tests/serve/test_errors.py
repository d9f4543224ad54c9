from __future__ import annotations

import pickle

import pytest
from ray.exceptions import RayTaskError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from asr.errors import DataError, UserError
from serve.errors import ApiError, as_api_error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError(429, "full", "queue_full"), 429, "queue_full"),
        (UserError("no", "hint"), 400, "invalid_value"),
        (DataError("not_audio", "bytes"), 400, "not_audio"),
        (DataError("too_long"), 400, "too_long"),
        (DataError("too_large"), 413, "too_large"),
        (HTTPException(404), 404, "http_error"),
        (ClientDisconnect(), 400, "upload_incomplete"),
        (TimeoutError(), 504, "timeout"),
        (ValueError("a secret"), 500, "internal_error"),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, Exception) else str(value),
)
def test_who_must_act_decides_the_status(error: Exception, status: int, code: str) -> None:
    fault = as_api_error(error)
    assert (fault.status, fault.code) == (status, code)


@pytest.mark.parametrize(
    ("reason", "param"),
    [("no_track", "track"), ("no_channel", "channel"), ("too_many_channels", "channel"), ("corrupt", "file")],
)
def test_a_sound_that_the_file_has_not_is_the_fault_of_who_chose_it(reason: str, param: str) -> None:
    fault = as_api_error(DataError(reason, "there is 1"))
    assert (fault.status, fault.code, fault.param, fault.message) == (400, reason, param, f"{reason}: there is 1")


def test_an_error_crosses_processes_whole() -> None:
    error = pickle.loads(pickle.dumps(ApiError(429, "full", "queue_full", "file", 7.2)))
    assert vars(error) == vars(ApiError(429, "full", "queue_full", "file", 7.2))


def test_an_error_of_a_replica_is_unwrapped() -> None:
    remote = RayTaskError("transcribe", "a long traceback", UserError("unknown language"))
    fault = as_api_error(remote.as_instanceof_cause())
    assert (fault.status, fault.message) == (400, "unknown language")
