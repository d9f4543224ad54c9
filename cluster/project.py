"""Paths of this project's own files: its packages, and beside them or inside of them its pins and configurations."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("asr", "cluster", "train", "serve", "whisperfleet")
ROOT = Path(__file__).resolve().parent.parent
_OF_A_WHEEL = ("whisperfleet", "project")  # setup.py puts them there


def is_checkout(root: Path = ROOT) -> bool:
    """Return whether a folder is a checkout, rather than where packages are installed."""
    return (root / "pyproject.toml").is_file() and (root / "constraints.txt").is_file()


def files(root: Path = ROOT) -> Path:
    """Return the folder of ``pyproject.toml``, ``constraints.txt`` and ``configs``."""
    return root if is_checkout(root) else root.joinpath(*_OF_A_WHEEL)


def configurations() -> dict[str, Path]:
    """Return the configurations to copy, by name, in the order of their names."""
    return {path.stem: path for path in sorted((files() / "configs").glob("*.yaml"))}
