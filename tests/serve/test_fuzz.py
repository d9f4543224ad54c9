"""A thousand damaged files and forms, or two thousand: none ends a process, holds it up, or is answered with a 500."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from asr.audio.decode import SAMPLE_RATE, decode
from tests.serve.conftest import KEY, FakeEndpoint
from tests.serve.expendable import decode_all
from tests.serve.mutations import NAMES, SECONDS, damaged, form, originals

FILES, MORE = range(600), range(600, 1_700)
STREAM_IN_MID_FILE = 237_233
FORMS = range(100_000, 100_400)
AT_ONCE = 6  # the endpoint takes in seven
TIME_LIMIT_S = 30.0


@pytest.mark.medium
def test_the_originals_are_whole() -> None:
    for kind, files in originals().items():
        for data in files:
            assert abs(len(decode(data)) / SAMPLE_RATE - SECONDS) < 0.1, kind


@pytest.mark.medium
def test_a_number_names_the_same_input_for_ever() -> None:
    first = [damaged(number) for number in range(50)], form(100_000)
    originals.cache_clear()  # encoders may write random numbers, or the time
    assert ([damaged(number) for number in range(50)], form(100_000)) == first


@pytest.mark.parametrize(
    "files",
    [pytest.param(FILES, marks=pytest.mark.slow, id="some"), pytest.param(MORE, marks=pytest.mark.long, id="more")],
)
def test_damaged_files_are_sound_or_refused_with_a_reason(files: range) -> None:
    fate = decode_all(files)
    assert not fate.faults, "\n".join(fate.faults)
    assert fate.outcomes.total() == len(files)
    for kind in NAMES:  # else the damage is too great to reach the decoders, or too small to be any
        answers = Counter({reason: count for (of, reason), count in fate.outcomes.items() if of == kind})
        assert answers["sound"] > 20, f"{kind}: {answers}"
        assert answers.total() - answers["sound"] > 50 and len(answers) >= 4, f"{kind}: {answers}"


@pytest.mark.medium
def test_a_stream_that_begins_in_mid_file_is_no_index_error() -> None:
    data = damaged(STREAM_IN_MID_FILE)[1]
    assert len({len(decode(data)) for _ in range(200)}) == 1  # it depended on what lay in memory beyond an array


@pytest.mark.slow
def test_damaged_forms_are_answered_and_never_with_a_500(fake: FakeEndpoint) -> None:
    with httpx.Client(timeout=TIME_LIMIT_S, headers={"authorization": f"Bearer {KEY}"}) as client:

        def fault(number: int) -> str:
            content_type, body = form(number)
            headers = [(b"content-type", content_type)] if content_type else []
            answer = client.post(f"{fake.url}/v1/audio/transcriptions", content=body, headers=headers)
            statuses[answer.status_code] += 1
            return _fault(number, answer)

        statuses: Counter[int] = Counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            faults = list(filter(None, pool.map(fault, FORMS)))
        assert not faults, "\n".join(faults)
        assert client.get(f"{fake.url}/readyz").status_code == 200
    assert statuses[200] > 20 and statuses[400] > 100, statuses


def _fault(number: int, answer: httpx.Response) -> str:
    if answer.status_code == 200:
        return ""
    if answer.status_code not in (400, 404, 413):
        return f"number {number}: {answer.status_code} {answer.text[:200]}"
    error = answer.json().get("error", {})
    right = error.keys() == {"message", "type", "param", "code"} and error["message"] and error["code"]
    return "" if right else f"number {number}: {answer.text[:200]}"
