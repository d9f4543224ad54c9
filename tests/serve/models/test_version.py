from __future__ import annotations

import pickle

from serve.models.version import ArtifactInfo, Version


def test_a_fingerprint_pins_a_version_and_none_leaves_it_open() -> None:
    pinned = Version("s3://bucket/it", "3fa")
    assert Version("s3://bucket/it").is_met_by(pinned) and pinned.is_met_by(pinned)
    assert not pinned.is_met_by(Version("s3://bucket/it", "4fb"))
    assert not pinned.is_met_by(Version("s3://bucket/it"))
    assert not Version("s3://bucket/nl").is_met_by(pinned)


def test_it_travels_and_is_a_key() -> None:
    version = Version("a", "f")
    assert {version: 1}[pickle.loads(pickle.dumps(version))] == 1


def test_people_read_it_with_its_fingerprint() -> None:
    assert (str(Version("a")), str(Version("a", "f"))) == ("a", "a@f")
    assert str(ArtifactInfo(Version("a", "f"), "an adapter")) == "f: an adapter"
