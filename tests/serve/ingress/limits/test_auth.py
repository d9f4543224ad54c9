from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import resolve
from asr.errors import UserError
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.ingress.limits.auth import MINUTE_S, NOBODY, Key, Keyring, read_keys
from serve.shares.ledger import Bounds
from serve.shares.limit import Shares
from tests.serve.ingress.limits.test_admission import Hands

ANNA, BERT = "wf-anna-0123456789", "wf-bert-0123456789"


def keyring(
    hands: Hands | None = None, requests_per_minute: int | None = None, concurrency: int | None = None
) -> Keyring:
    anna = Key(name="anna", key=ANNA, requests_per_minute=requests_per_minute, concurrency=concurrency)
    return Keyring([anna, Key(name="bert", key=BERT)], hands or Hands())


def ask(keys: Keyring, key: str = ANNA) -> str:
    with keys.authorise(f"Bearer {key}") as name:
        return name


def refusal(keys: Keyring, authorization: str | None = f"Bearer {ANNA}") -> ApiError:
    with pytest.raises(ApiError) as raised, keys.authorise(authorization):
        raise AssertionError("it was let in")
    return raised.value


def test_without_keys_everybody_may_ask() -> None:
    with Keyring().authorise(None) as name:
        assert name == NOBODY
    with Keyring().authorise("Bearer anything") as name:
        assert name == NOBODY


def test_each_key_has_its_holders_name() -> None:
    keys = keyring()
    assert (ask(keys), ask(keys, BERT)) == ("anna", "bert")
    with keys.authorise(f"bearer  {ANNA} ") as name:
        assert name == "anna"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", f"Basic {ANNA}", ANNA])
def test_no_key_is_told_apart_from_an_unknown_one(authorization: str | None) -> None:
    error = refusal(keyring(), authorization)
    assert (error.status, error.code) == (401, "missing_api_key")


@pytest.mark.parametrize("key", ["none-needed", ANNA[:-1], f"{ANNA}0", ANNA.upper(), "ключ", "\udcff"])
def test_an_unknown_key_is_refused_and_not_repeated(key: str) -> None:
    error = refusal(keyring(), f"Bearer {key}")
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert key not in str(error)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert ask(keyring()) == "anna"
    refusal(keyring(), "Bearer unknown")
    assert compared == [(32, 32)] * 4


def test_requests_in_a_minute_are_limited_key_by_key() -> None:
    hands = Hands()
    keys = keyring(hands, requests_per_minute=3)
    for _ in range(3):
        ask(keys)
        hands.time += 10.0
    error = refusal(keys)
    assert (error.status, error.code, error.retry_after_s) == (429, "rate_limit_exceeded", 30.0)
    assert [ask(keys, BERT) for _ in range(20)] == ["bert"] * 20
    hands.time += 30.0
    assert ask(keys) == "anna"
    assert refusal(keys).retry_after_s == 10.0


@settings(deadline=None)
@given(limit=st.integers(1, 5), pauses=st.lists(st.floats(0.0, 40.0), max_size=60))
def test_no_minute_ever_holds_more_and_who_waits_as_told_is_let_in(limit: int, pauses: list[float]) -> None:
    hands = Hands()
    keys = keyring(hands, requests_per_minute=limit)
    let_in: deque[float] = deque()
    for pause_s in pauses:
        hands.time += pause_s
        try:
            ask(keys)
        except ApiError as error:
            assert error.retry_after_s is not None and 0.0 < error.retry_after_s <= 60.0
            hands.time += error.retry_after_s + 1e-6
            ask(keys)
        let_in.append(hands.time)
        assert sum(moment > hands.time - 60.0 for moment in let_in) <= limit


def test_nobody_is_told_to_wait_for_more_than_a_minute() -> None:
    """With this clock the sum of a minute and the time, less the time, is a little more than a minute."""
    hands = Hands()
    hands.time = 969.5059328841629
    assert hands.time + 60.0 - hands.time > 60.0
    keys = keyring(hands, requests_per_minute=1)
    ask(keys)
    assert refusal(keys).retry_after_s == 60.0


def test_requests_at_the_same_time_are_limited_key_by_key() -> None:
    keys = keyring(concurrency=2)
    with keys.authorise(f"Bearer {ANNA}"), keys.authorise(f"Bearer {ANNA}"):
        error = refusal(keys)
        assert (error.status, error.code) == (429, "rate_limit_exceeded")
        assert ask(keys, BERT) == "bert"
    assert ask(keys) == "anna"


def test_a_request_that_fails_gives_its_place_back() -> None:
    keys = keyring(concurrency=1)
    with pytest.raises(KeyError), keys.authorise(f"Bearer {ANNA}"):
        raise KeyError
    assert ask(keys) == "anna"


def test_what_concurrency_refuses_does_not_count_for_the_minute() -> None:
    keys = keyring(requests_per_minute=2, concurrency=1)
    with keys.authorise(f"Bearer {ANNA}"):
        refusal(keys)
        refusal(keys)
    assert ask(keys) == "anna"


YAML = f"""
- {{name: anna, key: {ANNA}, requests_per_minute: 1}}
- {{name: bert, sha256: {hashlib.sha256(BERT.encode()).hexdigest()}, concurrency: 2}}
"""


def test_keys_are_read_from_a_file_in_full_or_as_hashes(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(YAML)
    keys = read_keys(str(tmp_path / "keys.yaml"))
    assert (ask(keys), ask(keys, BERT)) == ("anna", "bert")
    assert refusal(keys).status == 429


def test_keys_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEYS", YAML)
    assert ask(read_keys("env:OUR_KEYS"), BERT) == "bert"


def test_no_source_is_no_keys() -> None:
    with read_keys("").authorise(None) as name:
        assert name == NOBODY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "valid list"),
        ("[]", "at least 1"),
        ("anna: [", "no YAML"),
        ("- {name: anna}", "either key or sha256"),
        (f"- {{name: anna, key: {ANNA}, sha256: {'0' * 64}}}", "either key or sha256"),
        ("- {name: anna, key: secret-short}", "at least 16"),
        (f"- {{name: anna, sha256: {ANNA}}}", "pattern"),
        (f"- {{name: anna b, key: {ANNA}}}", "pattern"),
        (f"- {{name: anna, key: {ANNA}, rate: 3}}", "0.rate: Extra"),
        (f"- {{name: anna, key: {ANNA}, requests_per_minute: 0}}", "requests_per_minute"),
        (f"- {{name: anna, key: {ANNA}}}\n- {{name: bert, key: {ANNA}}}", "same key"),
        (f"- {{name: anna, key: {ANNA}}}\n- {{name: anna, key: {BERT}}}", "same name"),
    ],
)
def test_what_is_wrong_is_named_and_no_key_is_shown(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEYS", text)
    with pytest.raises(UserError, match=message) as raised:
        read_keys("env:OUR_KEYS")
    assert ANNA not in str(raised.value) and "secret" not in str(raised.value)


def test_a_source_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUR_KEYS", raising=False)
    with pytest.raises(UserError, match="no environment variable 'OUR_KEYS'"):
        read_keys("env:OUR_KEYS")
    with pytest.raises(UserError, match="No such file"):
        read_keys(str(tmp_path / "keys.yaml"))


def test_a_key_shows_in_no_representation() -> None:
    assert ANNA not in repr(Key(name="anna", key=ANNA))


def test_a_key_in_place_of_its_file_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = "0f3a9c" * 8
    for typed in (secret, f"[{{name: a, key: {secret}}}]", f"env:{secret}", "a/" * 200 + secret):
        with pytest.raises(UserError) as told:
            read_keys(resolve(ServeConfig, None, ["model=m", f"keys='{typed}'"]).value.keys)
        assert secret not in str(told.value)
    with pytest.raises(UserError) as told:
        resolve(ServeConfig, None, ["model=m", f"keys=[{{name: a, key: {secret}}}]"])
    assert secret not in str(told.value) and "keys: Input should be a valid string" in str(told.value)
    with pytest.raises(UserError, match=r"keys=.*/gone.yaml cannot be read: No such file"):
        read_keys("/gone.yaml")


def test_a_key_that_two_ingresses_know_has_its_limits_once() -> None:
    async def ask() -> None:
        bounds, hands = Bounds(), Hands()
        rings = [Keyring([Key(name="anna", key=ANNA, requests_per_minute=3)], hands) for _ in range(2)]
        shares = [Shares(clock=hands) for _ in rings]
        for ring, share in zip(rings, shares, strict=True):
            ring.share(share)

        async def asked(ring: Keyring) -> bool:
            asking = asyncio.create_task(ring.room(f"Bearer {ANNA}"))
            for _ in range(6):
                await asyncio.sleep(0)
                for number, share in enumerate(shares):
                    bounds.report(str(number), share.report())
                    share.obey(*bounds.orders(str(number)))
            await asking
            try:
                with ring.authorise(f"Bearer {ANNA}"):
                    return True
            except ApiError:
                return False

        assert [await asked(rings[number % 2]) for number in range(6)] == [True] * 3 + [False] * 3
        hands.time += MINUTE_S + 1.0
        assert [await asked(rings[1]) for _ in range(4)] == [True] * 3 + [False]

    asyncio.run(ask())


def test_room_is_asked_for_with_a_known_key_only() -> None:
    with pytest.raises(ApiError) as refused:
        asyncio.run(Keyring([Key(name="anna", key=ANNA)]).room("Bearer nobody's"))
    assert refused.value.status == 401
    asyncio.run(Keyring().room(None))
