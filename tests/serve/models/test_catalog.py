from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from serve.config import ServeConfig
from serve.errors import ApiError
from serve.models.catalog import Catalog, CatalogEntry, is_same, opened, save
from serve.models.version import Version

OLD, NEW, THIRD = Version("runs/old", "1"), Version("runs/new", "2"), Version("runs/third", "3")


@pytest.fixture
def catalog() -> Catalog:
    return Catalog({"italian": CatalogEntry(OLD), "dutch": CatalogEntry(THIRD)}, "runs/old")


def test_clients_get_the_model_that_they_name(catalog: Catalog) -> None:
    assert [catalog.name(asked) for asked in ("italian", "dutch")] == ["italian", "dutch"]
    assert [catalog.name(asked) for asked in ("whisper-1", "runs/old")] == ["italian", "italian"]
    with pytest.raises(ApiError, match="there is no model 'frisian' here, only 'italian', 'dutch'") as raised:
        catalog.name("frisian")
    assert (raised.value.status, raised.value.code) == (404, "model_not_found")


def test_a_canary_is_promoted_and_rolled_back(catalog: Catalog) -> None:
    canary = catalog.with_candidate("italian", NEW, 0.1)
    assert canary.entries["italian"] == CatalogEntry(OLD, candidate=NEW, share=0.1)
    assert canary.rolled_back("italian") == catalog
    promoted = canary.promoted("italian", NEW)
    assert promoted.entries["italian"] == CatalogEntry(NEW, previous=OLD)
    assert promoted.rolled_back("italian").entries["italian"] == CatalogEntry(OLD)
    with pytest.raises(UserError, match=r"no version before runs/old@1"):
        catalog.rolled_back("italian")
    assert promoted.promoted("italian", THIRD).entries["italian"] == CatalogEntry(THIRD, previous=NEW)


def test_names_come_and_go_but_the_default(catalog: Catalog) -> None:
    more = catalog.with_name("frisian", NEW)
    assert list(more.entries) == ["italian", "dutch", "frisian"] and more.without("frisian") == catalog
    for taken in ("dutch", "whisper-1", "runs/old"):
        with pytest.raises(UserError, match="already"):
            catalog.with_name(taken, NEW)
    with pytest.raises(UserError, match="default"):
        catalog.without("italian")
    with pytest.raises(UserError, match=r"no model 'dutsh' here \(did you mean 'dutch'\?\)"):
        catalog.without("dutsh")


def test_a_version_is_used_as_long_as_a_name_may_need_it(catalog: Catalog) -> None:
    promoted = catalog.promoted("italian", NEW)
    assert promoted.uses(OLD) and promoted.uses(NEW) and promoted.uses(Version("runs/new"))
    assert not promoted.promoted("italian", THIRD).uses(OLD)


def test_the_files_that_a_version_turned_out_to_be_are_noted_everywhere() -> None:
    catalog = Catalog({"a": CatalogEntry(Version("x"), previous=Version("x", "old")), "b": CatalogEntry(Version("x"))})
    pinned = catalog.pinned(Version("x", "new"))
    assert pinned.entries == {
        "a": CatalogEntry(Version("x", "new"), previous=Version("x", "old")),
        "b": CatalogEntry(Version("x", "new")),
    }


@pytest.mark.medium
@given(st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_a_candidate_answers_its_share_and_always_the_same_requests(share: float, seed: int) -> None:
    entry = CatalogEntry(OLD, candidate=NEW, share=share)
    drawn = [entry.drawn(f"{seed}-{number}") for number in range(2000)]
    assert drawn == [entry.drawn(f"{seed}-{number}") for number in range(2000)]
    assert set(drawn) <= {(OLD, "stable"), (NEW, "candidate")}
    got = sum(role == "candidate" for _, role in drawn) / len(drawn)
    assert abs(got - share) < 6 * (share * (1 - share) / len(drawn)) ** 0.5


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.49))
def test_a_larger_share_takes_more_requests_and_gives_none_back(share: float, more: float) -> None:
    before, after = (CatalogEntry(OLD, candidate=NEW, share=each) for each in (share, share + more))
    for number in range(200):
        if before.drawn(str(number))[1] == "candidate":
            assert after.drawn(str(number))[1] == "candidate"


def test_without_a_candidate_all_is_stable() -> None:
    assert {CatalogEntry(OLD).drawn(str(number)) for number in range(100)} == {(OLD, "stable")}


def config(registry: Path, **changes: object) -> ServeConfig:
    return ServeConfig.model_validate({"models": {"a": "runs/a", "b": "runs/b"}, "registry": str(registry)} | changes)


def test_without_a_registry_it_is_what_is_configured() -> None:
    catalog = opened(ServeConfig(model="runs/mine", models={"other": "runs/other"}))
    assert [(name, entry.stable) for name, entry in catalog.entries.items()] == [
        ("runs/mine", Version("runs/mine")),
        ("other", Version("runs/other")),
    ]
    save(catalog, "")


def test_what_was_promoted_and_added_outlives_the_endpoint(tmp_path: Path) -> None:
    place = tmp_path / "new folder" / "models.json"
    first = opened(config(place))
    changed = first.promoted("a", NEW).with_candidate("b", THIRD, 0.25).with_name("c", OLD)
    save(changed, str(place))
    assert opened(config(place)) == changed
    assert not list(place.parent.glob(".*")), "nothing half-written is left"


def test_a_change_of_the_configuration_counts_more_than_the_registry(tmp_path: Path) -> None:
    place = tmp_path / "models.json"
    save(opened(config(place)).promoted("a", NEW).with_name("c", OLD), str(place))
    again = opened(config(place, models={"a": "runs/a2"}))
    assert again.entries == {
        "a": CatalogEntry(Version("runs/a2"), previous=NEW, configured="runs/a2"),
        "c": CatalogEntry(OLD),
    }


@pytest.mark.parametrize("text", ["", "[]", '{"models": {"a": {"stable": 3}}}', '{"format_version": 2}'])
def test_a_damaged_registry_is_named(tmp_path: Path, text: str) -> None:
    place = tmp_path / "models.json"
    place.write_text(text)
    with pytest.raises(UserError, match=rf"registry={place}: "):
        opened(config(place))


def test_a_registry_may_lie_in_a_bucket(s3: str) -> None:
    place = s3.replace("speech?", "speech/models.json?")
    changed = opened(ServeConfig(model="m", registry=place)).promoted("m", NEW)
    save(changed, place)
    assert opened(ServeConfig(model="m", registry=place)) == changed


def test_what_a_configuration_wrote_is_the_absolute_path_that_it_became() -> None:
    """Clients name the default as it was configured, and a registry may be older than absolute paths."""
    assert is_same("runs/one/artifact", "/home/me/runs/one/artifact")
    assert is_same("./runs/one/artifact/", "/home/me/runs/one/artifact")
    assert is_same("builtin:base", "builtin:base")
    assert not is_same("uns/one/artifact", "/home/me/runs/one/artifact")
    assert not is_same("", "/home/me/runs/one/artifact")
