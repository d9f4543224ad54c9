"""The packages that a job runs with: the project's own pins, found on the nodes or installed there first."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Literal

# pinned: the nodes have the pinned versions already, or the job ends at once. pip, uv: they are installed on each node
# first. image: whatever the nodes have, with a warning where it differs.
Environment = Literal["pinned", "pip", "uv", "image"]

_WITH = "deepspeed"  # the extra that every job may need
_BOUND = re.compile("[=<>!~ ]")

WORKING_DIR = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"  # Ray's word for the job's folder while it installs


def pins(root: Path) -> dict[str, str]:
    """Return the pinned version of each distribution that the project at ``root`` needs itself, by its name there."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = {}
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, equals, version = line.partition("==")
        if equals:
            locked[_key(name)] = version.strip()
    wanted = [*project["dependencies"], *(project.get("optional-dependencies", {}).get(_WITH, ()))]
    names = [_BOUND.split(one)[0] for one in wanted]
    return {name: locked[_key(name)] for name in names if _key(name) in locked}


def runtime_environment(kind: str, root: Path) -> dict[str, object]:
    """Return the part of Ray's runtime environment that installs packages: {} where they are there already.

    Ray itself is not installed: it has to be the cluster's own. What the pinned packages need in turn is held to
    constraints.txt, which travels with the checkout.
    """
    option = {"pip": "pip_install_options", "uv": "uv_pip_install_options"}.get(kind)
    if option is None:
        return {}
    packages = [f"{name}=={version}" for name, version in pins(root).items() if _key(name) != "ray"]
    options = [f"--constraint={WORKING_DIR}/constraints.txt"]
    return {kind: {"packages": packages, option: options}}


def differences(root: Path) -> list[str]:
    """Return in words what this Python has in another version than the project's pins, or not at all."""
    found = []
    for name, wanted in pins(root).items():
        installed = version(name)
        if installed != wanted and (installed or _key(name) != _WITH):
            found.append(f"{_key(name)} {installed or 'is missing'}, pinned {wanted}")
    return found


def version(name: str) -> str:
    """Return the installed version of a distribution without its build (``+cpu``), "" where it is not installed."""
    try:
        return metadata.version(_key(name)).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower().strip()
