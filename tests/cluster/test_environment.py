from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import ray.runtime_env

from cluster.environment import differences, pins, runtime_environment, version

ROOT = Path(__file__).resolve().parents[2]


def test_every_dependency_of_the_project_has_its_pin() -> None:
    found = pins(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["deepspeed"]]
    assert set(found) == {one.partition("==")[0] for one in wanted}
    assert found["ray[data,serve,train]"] == ray.__version__


@pytest.mark.parametrize("kind", ["pip", "uv"])
def test_what_is_installed_is_pinned_and_held_to_the_constraints(kind: str) -> None:
    environment = runtime_environment(kind, ROOT)
    assert ray.runtime_env.RuntimeEnv(**environment)[kind]  # Ray takes it
    packages = environment[kind]["packages"]
    assert f"torch=={pins(ROOT)['torch']}" in packages
    assert all("==" in package and not package.startswith("ray") for package in packages)
    (options,) = (value for key, value in environment[kind].items() if key.endswith("install_options"))
    assert options == ["--constraint=${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"]


@pytest.mark.parametrize("kind", ["pinned", "image"])
def test_nothing_is_installed_where_it_is_there_already(kind: str) -> None:
    assert runtime_environment(kind, ROOT) == {}


def test_what_differs_from_the_pins_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["PyYAML==6.*", "ray[data]==2.60.*", "no_such.thing"]'
    )
    (tmp_path / "constraints.txt").write_text(f"# ...\npyyaml==0.1\nray=={ray.__version__}\nno-such-thing==3\n")
    assert differences(tmp_path) == [
        f"pyyaml {metadata.version('pyyaml')}, pinned 0.1",
        "no-such-thing is missing, pinned 3",
    ]


def test_a_build_is_no_other_version() -> None:
    assert version("torch") == metadata.version("torch").partition("+")[0]
    assert version("no-such-thing") == ""
