from __future__ import annotations

from pathlib import Path

from cluster.project import PACKAGES, ROOT, configurations, files, is_checkout


def test_a_checkout_has_its_files_beside_its_packages(tmp_path: Path) -> None:
    assert is_checkout() and files() == ROOT
    assert all((ROOT / name / "__init__.py").is_file() for name in PACKAGES)
    assert not is_checkout(tmp_path)


def test_an_installed_copy_has_them_inside(tmp_path: Path) -> None:
    assert files(tmp_path) == tmp_path / "whisperfleet" / "project"


def test_configurations_are_called_as_their_files() -> None:
    assert {"demo", "serve", "dhivehi-small"} <= set(configurations())
    assert all(path.is_file() for path in configurations().values())
