"""What an image installs: every package at its tested version with the hashes of its files, and none missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "cluster/requirements.txt").read_text(encoding="utf-8")
BODY = "".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith("#"))
ENTRIES = re.split(r"\n(?! )", BODY.rstrip("\n"))
NODE = {
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "python_version": "3.11",
    "python_full_version": "3.11.9",
}
EXTRAS = ("client", "deepspeed", "qlora")


def parsed(entry: str) -> tuple[Requirement, list[str]]:
    first, *hashes = entry.split(" \\\n")
    return Requirement(first), [one.strip() for one in hashes]


def versions(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines if "==" in line}


LISTED = {canonicalize_name(requirement.name): requirement for requirement, _ in map(parsed, ENTRIES)}


def test_there_is_nothing_but_packages_with_hashes() -> None:
    assert len(ENTRIES) == len(LISTED) > 100
    for entry in ENTRIES:
        requirement, hashes = parsed(entry)
        assert re.fullmatch(r"==[\w.!]+", str(requirement.specifier)) and requirement.url is None, entry
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), entry


def test_versions_are_those_of_the_constraints() -> None:
    """The others are what torch's CUDA build names by version itself, and what is for other systems."""
    tested = versions("constraints.txt")
    both = set(tested) & set(LISTED)
    assert len(both) > 100
    assert {name: str(LISTED[name].specifier) for name in both} == {name: f"=={tested[name]}" for name in both}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["build-system"]["requires"] == [str(LISTED["setuptools"])]  # with which our own is built


@pytest.mark.medium
def test_whatever_a_package_needs_is_in_the_list() -> None:
    """As pip would go through them: nothing is left for it to choose."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    left, seen = [Requirement(one) for one in first], set()
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        key = (name, *sorted(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        assert name in LISTED and wanted.specifier.contains(str(LISTED[name].specifier).removeprefix("==")), wanted
        marker = LISTED[name].marker
        assert marker is None or marker.evaluate(NODE), wanted
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            chosen = [{"extra": extra} for extra in (wanted.extras or {""})]
            if needed.marker is None or any(needed.marker.evaluate(NODE | extra) for extra in chosen):
                left.append(needed)
    assert len(seen) > 100


@pytest.mark.medium
@pytest.mark.parametrize("tampered", [False, True])
def test_a_file_that_is_not_the_one_that_was_tested_is_not_installed(tmp_path: Path, tampered: bool) -> None:
    """An index, or who stands before it, gives out another file under a package's name and version."""
    wheel = tmp_path / "six-1.17.0-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("six.py", "print('not what was tested')")
        made.writestr("six-1.17.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: six\nVersion: 1.17.0\n")
        made.writestr("six-1.17.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("six-1.17.0.dist-info/RECORD", "")
    (entry,) = [one for one in ENTRIES if one.startswith("six==1.17.0 ")]
    listed = tmp_path / "requirements.txt"
    listed.write_text(entry if tampered else "six==1.17.0")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path), "--no-deps"),
            *("--target", str(tmp_path / "installed"), "--requirement", str(listed)),
            *(["--require-hashes"] if tampered else []),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "installed" / "six.py").exists() is not tampered
    assert ("DO NOT MATCH THE HASHES" in done.stderr) is tampered and bool(done.returncode) is tampered
