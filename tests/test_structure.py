"""The house rules that no linter knows: which way imports run, how long files are, what mirrors what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("asr", "cluster", "train", "serve", "whisperfleet")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if path.name != "__init__.py")
MAX_LINES = 300


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def summary(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"\.(?= |$)", first)[0]


def readme_tree() -> str:
    """The tree that the README must show: a line for each module, in its own words."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        files = [path for path in MODULES if path.is_relative_to(ROOT / package)]
        names = {path: path.relative_to(ROOT / package).as_posix() for path in files}
        lines += [f"  {names[path]:<26} {summary(path)}" for path in files]
    return "\n".join(lines)


def test_there_are_modules() -> None:
    assert len(MODULES) > 30


def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_file_is_one_noun_of_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert summary(path)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_has_a_test_of_its_own(path: Path) -> None:
    inside = path.relative_to(ROOT)
    if inside.parts[:2] == ("asr", "metrics"):
        assert (ROOT / "tests/asr/test_metrics.py").is_file()  # wer.py and cer.py, loaded as their users load them
        return
    mirror = ROOT / "tests" / inside.parent / f"test_{inside.stem.strip('_')}.py"
    assert mirror.is_file(), f"{relative(mirror)} is missing"


def test_the_cores_of_an_endpoint_are_free_for_the_tests_after_it() -> None:
    """A fixture of a package's scope ends with its folder only where that is a package, else with the whole run."""
    for conftest in (ROOT / "tests").rglob("conftest.py"):
        if 'scope="package"' in conftest.read_text(encoding="utf-8"):
            folders = [folder for folder in conftest.parents if folder.is_relative_to(ROOT / "tests")]
            assert all((folder / "__init__.py").exists() for folder in folders), conftest


def test_the_readme_shows_the_tree_as_it_is() -> None:
    expected = readme_tree()
    assert expected in (ROOT / "README.md").read_text(encoding="utf-8"), f"put this into the README:\n{expected}"


def test_help_answers_without_importing_torch_or_ray() -> None:
    code = (
        "import sys\n"
        "from whisperfleet.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('HEAVY', sorted({'torch', 'ray', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "transcribe" in done.stdout
    assert done.stdout.rstrip().endswith("HEAVY []")


def test_every_dependency_is_pinned_exactly_and_only_in_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    assert len(pinned) > 50
    for requirement in wanted:
        name = requirement.partition("[")[0]
        assert re.fullmatch(r"[A-Za-z0-9-]+", name), f"'{requirement}': the version belongs in constraints.txt"
        assert name.lower() in pinned, f"{name} is not pinned in constraints.txt"
