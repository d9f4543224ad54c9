"""This project as ``pip install`` of its wheel leaves it, beside the packages that the tests run with."""

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
    """Build the wheel of these files, without what an earlier build left, and install it in a new environment."""
    source = scratch / "source"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(scratch), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    made = Installed(scratch / "environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.folder)], check=True)
    (wheel,) = scratch.glob("*.whl")
    install = [*pip, "--python", made.python, "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, env=made.environment(), check=True, capture_output=True)
    (packages,) = made.folder.glob("lib/python*/site-packages")
    # a path only: the .pth files there, and with them the checkout, are not read
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made
