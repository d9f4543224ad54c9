"""The house rules that no linter knows: which way imports run, how long files are, what mirrors what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.generate import modules, summary
from tests.light import imported_by

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("asr", "cluster", "serve", "train", "whisperfleet")
MODULES = modules()
MAX_LINES = 300


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_modules() -> None:
    assert len(MODULES) > 30


@pytest.mark.medium
def test_imports_run_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_is_one_noun_of_at_most_300_lines() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: lines for path, lines in lengths.items() if lines > MAX_LINES}


@pytest.mark.medium
def test_a_module_says_what_it_is() -> None:
    assert not [relative(path) for path in MODULES if not summary(path)]


def mirror(path: Path) -> Path:
    """Where a module's tests are."""
    inside = path.relative_to(ROOT)
    if inside.parts[:2] == ("asr", "scoring") and "metrics" in inside.parts:
        return ROOT / "tests/asr/scoring/test_metrics.py"  # wer.py and cer.py, loaded as their users load them
    return ROOT / "tests" / inside.parent / f"test_{inside.stem.strip('_')}.py"


def test_a_module_has_a_test_of_its_own() -> None:
    assert not [relative(mirror(path)) for path in MODULES if not mirror(path).is_file()]


@pytest.mark.medium
@pytest.mark.parametrize("module", ["serve.ingress.api", "serve.models.controller", "asr.audio.sandbox_child"])
def test_who_only_passes_speech_on_holds_no_network_in_memory(module: str) -> None:
    assert not imported_by(f"import {module}") & {"torch", "transformers", "ctranslate2", "onnxruntime"}


def test_the_cores_of_an_endpoint_are_free_for_the_tests_after_it() -> None:
    """A fixture of a package's scope ends with its folder only where that is a package, else with the whole run."""
    for conftest in (ROOT / "tests").rglob("conftest.py"):
        if 'scope="package"' in conftest.read_text(encoding="utf-8"):
            folders = [folder for folder in conftest.parents if folder.is_relative_to(ROOT / "tests")]
            assert all((folder / "__init__.py").exists() for folder in folders), conftest


def test_every_dependency_is_pinned_exactly_in_constraints_and_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: extra for name, extra in project["optional-dependencies"].items() if name != "gpu"}  # none is here
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(one.name): one for one in map(Requirement, lines[1:])}
    assert len(pinned) > 50
    for wanted in map(Requirement, [*project["dependencies"], *(name for extra in extras.values() for name in extra)]):
        (exact,) = pinned[canonicalize_name(wanted.name)].specifier
        assert exact.operator == "=="
        assert wanted.specifier.contains(exact.version), wanted


def test_what_is_used_beyond_its_promises_has_a_bound() -> None:
    """A wheel is installed without constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bound = {Requirement(one).name for one in project["dependencies"] if Requirement(one).specifier}
    assert {"ray", "transformers", "peft", "datasets", "ctranslate2"} <= bound


def test_a_public_name_means_one_thing() -> None:
    """But for the schemas of the HTTP API, whose names are OpenAI's."""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        if path.name != "schemas.py":
            for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(encoding="utf-8"), re.M):
                places.setdefault(name, []).append(relative(path))
    assert len(places) > 200
    assert not {name: found for name, found in places.items() if len(found) > 1}


def definitions(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the public names of a module, of its classes and functions, and of theirs, each with its docstring."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        name = getattr(node, "name", "")
        if not name.startswith("_"):
            yield name, ast.get_docstring(node) or ""
        for inner in node.body:
            yield from definitions(inner)


def test_a_public_docstring_begins_with_what_a_thing_is_or_does() -> None:
    """A question word at its beginning makes a riddle of it."""
    question = r"(Who|What|Where|How|Whether|When)\b"
    riddles = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if re.search(rf'"""{question}', text):  # most modules have none, and need not be parsed
            found = definitions(ast.parse(text))
            riddles += [f"{relative(path)} {name}" for name, told in found if re.match(question, told)]
    assert not riddles


def words(text: str) -> Counter[str]:
    """Count the identifiers in a text."""
    return Counter(re.findall(r"[A-Za-z_]\w*", text))


def test_what_the_product_defines_is_used_by_it() -> None:
    """Code for tests alone belongs to them. What has a decorator is found by that; other names stand somewhere, if only
    in a document or among the entry points of pyproject.toml."""
    texts = {path: path.read_text(encoding="utf-8") for package in PRODUCT for path in ROOT.glob(f"{package}/**/*.py")}
    own = {path: words(text) for path, text in texts.items()}
    others = [ROOT / "pyproject.toml", *ROOT.glob("docs/**/*.md")]
    everywhere = Counter[str]()
    for counts in (*own.values(), *(words(path.read_text(encoding="utf-8")) for path in others)):
        everywhere.update(counts)
    unused = []
    for path, text in texts.items():
        defined = re.findall(r"^(?:async def|def|class) ([A-Za-z]\w*)", text, re.M)
        alone = {name for name in defined if everywhere[name] == own[path][name]}
        for node in ast.parse(text).body if alone else ():  # most modules need not be parsed
            is_definition = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if is_definition and node.name in alone and not node.decorator_list:
                inside = words(ast.get_source_segment(text, node) or "")
                if inside[node.name] == everywhere[node.name]:
                    unused.append(f"{relative(path)} {node.name}")
    assert len(everywhere) > 5000
    assert not unused


def test_a_family_is_asked_through_its_interface_alone() -> None:
    """A folder with a ``family.py`` is a family: the contract that keeps others out of it has to name it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (families,) = (one for one in contracts if one["name"] == "A family of models is asked through asr.models.family")
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("asr/models/*/**/family.py")}
    assert found
    assert found == set(families["protected_modules"]) == set(families["allowed_importers"])
