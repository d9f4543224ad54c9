"""This project as ``pip install`` of its wheel leaves it, beside the packages that the tests run with or its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("asr", "cluster", "train", "serve", "whisperfleet", "configs")
PIP = (sys.executable, "-m", "pip")
FILES = ("pyproject.toml", "setup.py", "constraints.txt", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it."""

    folder: Path

    @property
    def command(self) -> str:
        """The path of ``whisperfleet``."""
        return str(self.folder / "bin" / "whisperfleet")

    @property
    def python(self) -> str:
        """The path of its Python."""
        return str(self.folder / "bin" / "python")

    @staticmethod
    def environment() -> dict[str, str]:
        """Return this process's environment without what would lead to the checkout."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def install(scratch: Path) -> Installed:
    """Install the wheel in a new environment, and lend it the packages of this one."""
    made = Installed(scratch / "environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.folder)], check=True)
    _pip(made, "--no-deps", str(wheel(scratch)))
    (packages,) = made.folder.glob("lib/python*/site-packages")
    # a path only: the .pth files there, and with them the checkout, are not read
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def install_whole(scratch: Path) -> Installed:
    """Install the wheel in a new environment with all that it asks for, from the registry, as the README says."""
    made = Installed(scratch / "environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.folder)], check=True)
    _pip(made, "--constraint", str(ROOT / "constraints.txt"), str(wheel(scratch)))
    return made


def wheel(scratch: Path) -> Path:
    """Build the wheel of these files, without what an earlier build left, and return its path."""
    source = scratch / "source"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(scratch), str(source)]
    subprocess.run([*PIP, *build], check=True, capture_output=True)
    (built,) = scratch.glob("*.whl")
    return built


def _pip(made: Installed, *what: str) -> None:
    command = [*PIP, "--python", made.python, "install", "--quiet", *what]
    subprocess.run(command, env=made.environment(), check=True, capture_output=True)
