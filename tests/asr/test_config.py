from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from asr.config import Renamed, Resolved, Section, current_names, resolve, suggestion
from asr.errors import RenamedWarning, UserError


class Optim(Section):
    learning_rate: float = Field(1e-3, gt=0)
    max_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.999)


class Run(Section):
    name: str = "run"
    language: str | None = None
    verbose: bool = False
    optim: Optim = Optim()
    tags: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def steps_need_a_name(self) -> Run:
        if self.optim.max_steps == 13 and self.name == "run":
            raise ValueError("optim.max_steps=13 needs a name")
        return self


class Needy(Section):
    base: str


def lines(error: pytest.ExceptionInfo[UserError]) -> list[str]:
    return str(error.value).splitlines()


def refused(*overrides: str, file: Path | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        resolve(Run, file, overrides)
    return lines(caught)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("name: first\noptim:\n  max_steps: 5\n  betas: [0.8, 0.9]\n", encoding="utf-8")
    return path


def rows(resolved: Resolved[Run]) -> dict[str, tuple[object, str]]:
    return {key: (value, origin) for key, value, origin in resolved.rows()}


def test_each_value_says_where_it_came_from(file: Path) -> None:
    resolved = resolve(Run, file, ["optim.max_steps=7", "verbose=yes"])
    assert rows(resolved) == {
        "name": ("first", str(file)),
        "language": (None, "default"),
        "verbose": (True, "command line"),
        "optim.learning_rate": (1e-3, "default"),
        "optim.max_steps": (7, "command line"),
        "optim.betas": ([0.8, 0.9], str(file)),
        "tags": ({}, "default"),
    }


def test_a_section_given_whole_on_the_command_line_replaces_the_files(file: Path) -> None:
    found = rows(resolve(Run, file, ["optim={learning_rate: 0.5}"]))
    assert found["optim.learning_rate"] == (0.5, "command line")
    assert found["optim.max_steps"] == (100, "default"), "the file's section is gone, and so is its origin"


class Source(Section):
    source: str
    split: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        return {"source": data} if isinstance(data, str) else data


class Corpora(Section):
    train: Source | list[Source]
    retention: Source = Source(source="none")


def test_a_section_given_as_a_word_was_said_to_be_the_default(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("train: clips.csv\n")
    found = {key: place for key, _, place in resolve(Corpora, path).rows()}
    assert found == {
        "train.source": str(path),
        "train.split": "default",
        "retention.source": "default",
        "retention.split": "default",
    }
    found = {key: place for key, _, place in resolve(Corpora, path, ["train.split=dev", "train.source=b"]).rows()}
    assert (found["train.source"], found["train.split"]) == ("command line", "command line")
    found = {key: place for key, _, place in resolve(Corpora, path, ["train=[a, b]"]).rows()}
    assert found["train"] == "command line"


def test_the_last_word_wins(file: Path) -> None:
    assert resolve(Run, file, ["name=a", "name=b=c"]).value.name == "b=c"


def test_defaults_alone() -> None:
    assert resolve(Run).value == Run()
    assert {origin for _, _, origin in resolve(Run).rows()} == {"default"}


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert resolve(Run, tmp_path / "empty.yaml").value == Run()


def test_unknown_keys_get_the_nearest_dotted_path() -> None:
    assert refused("optim.max_step=3") == [
        "command line: unknown key 'optim.max_step' (did you mean 'optim.max_steps'?)"
    ]
    assert refused("max_steps=3") == ["command line: unknown key 'max_steps' (did you mean 'optim.max_steps'?)"]
    assert refused("zzz=3") == ["command line: unknown key 'zzz'"]


def test_all_mistakes_at_once_each_with_its_place(file: Path) -> None:
    file.write_text("nam: x\noptim: {max_steps: many, learning_rate: 0.1}\n")
    found = refused("optim.learning_rate=-1", "verbose", "optim.betas=[1, b]", "language=[", file=file)
    assert len(found) == 6, found
    for place, part in [
        ("command line", "'verbose' is not a setting"),
        ("command line", "'language=[': the value is not valid YAML"),
        (str(file), "unknown key 'nam' (did you mean 'name'?)"),
        (str(file), "optim.max_steps: Input should be a valid integer"),
        ("command line", "optim.learning_rate: Input should be greater than 0, got -1"),
        ("command line", "optim.betas.1: Input should be a valid number"),
    ]:
        assert any(line.startswith(f"{place}: {part}") for line in found), (part, found)


def test_a_wrong_type_shows_what_was_typed() -> None:
    [line] = refused("optim.max_steps=many")
    assert line.startswith("command line: optim.max_steps: ")
    assert line.endswith(", got 'many'")


def test_an_error_does_not_repeat_a_value_that_holds_a_secret(file: Path) -> None:
    wrong = [
        "optim.max_steps=[{name: a, key: hunter2}]",
        "name=[{inner: [{token: hunter2}]}]",
        "optim.betas='https://me:hunter2@host/a'",
        "api_key='hunter2",
        "language=[{key: hunter2",
        "key=[{name: a, key: hunter2",
    ]
    for word in wrong:
        assert "hunter2" not in str(refused(word)), word
    for text in ("name: [{key: hunter2\n", "key: hunter2: a\n", "optim: {max_steps: [{password: hunter2}]}\n"):
        file.write_text(text)
        assert "hunter2" not in str(refused(file=file)), text
    file.write_text("name: a\nkey: hunter2: a\n")
    assert refused(file=file) == [
        f"{file}: cannot be read as YAML: mapping values are not allowed here in line 2, column 13"
    ]


def test_a_scalar_for_a_section(file: Path) -> None:
    file.write_text("optim: 5\n")
    [line] = refused(file=file)
    assert line.startswith(f"{file}: optim: ")
    assert line.endswith(", got 5")
    assert resolve(Run, file, ["optim.max_steps=7"]).value.optim.max_steps == 7, "the command line replaces it"


def test_a_check_across_fields_keeps_its_own_words() -> None:
    assert refused("optim.max_steps=13") == ["command line: optim.max_steps=13 needs a name"]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError) as caught:
        resolve(Needy)
    assert lines(caught) == ["command line: base: Field required"]


@pytest.mark.parametrize("language", ["no", "on", "y", "2026-01-02", "2026-99-99"])
def test_norwegian_is_a_language_and_a_date_is_a_name(file: Path, language: str) -> None:
    file.write_text(f"language: {language}\nverbose: off\n")
    resolved = resolve(Run, file, [f"name={language}"]).value
    assert (resolved.language, resolved.name, resolved.verbose) == (language, language, False)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"name: [1", "cannot be read as YAML"),
        (b"name: \xff", "cannot be read as YAML"),
        (b"optim: {max_steps: 0x_}", "cannot be read as YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        (b"- name\n- x", "holds a list, not a mapping"),
        (b"just words", "holds a str, not a mapping"),
    ],
)
def test_files_that_are_no_configuration(file: Path, content: bytes, part: str) -> None:
    file.write_bytes(content)
    [line] = refused(file=file)
    assert line.startswith(f"{file}: {part}"), line


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert refused(file=tmp_path / "no.yaml") == [
        f"{tmp_path}/no.yaml: no such configuration file (`whisperfleet recipe` has examples)"
    ]
    assert "cannot be read" in refused(file=tmp_path)[0]


@given(st.text())
def test_any_word_is_a_setting_or_a_users_mistake(word: str) -> None:
    try:
        resolve(Run, None, [word])
    except UserError as error:
        assert str(error)


@given(st.text(st.characters(categories=["L", "Nd"]), min_size=1), st.integers(), st.booleans())
def test_plain_values_arrive_as_typed(name: str, steps: int, verbose: bool) -> None:
    value = resolve(
        Run, None, [f'name="{name}"', f"optim.max_steps={steps}", f"verbose={verbose}", "tags={a: b}"]
    ).value
    assert (value.name, value.optim.max_steps, value.verbose, value.tags) == (name, steps, verbose, {"a": "b"})


def test_sections_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Run().name = "other"  # type: ignore[misc]


def test_a_docstring_under_a_field_is_its_help() -> None:
    class Documented(Section):
        rate: int = 1
        """Samples in a second."""

    assert Documented.model_fields["rate"].description == "Samples in a second."


def test_suggestions_are_near_or_none() -> None:
    assert suggestion("tiny", ["tiny.en", "base"]) == "did you mean 'tiny.en'?"
    assert suggestion("xyz", ["tiny.en", "base"]) == ""


class Sizes(Section):
    renamed: ClassVar = {"large": Renamed("big", {"very": "huge"})}
    big: str = "no"
    count: int = 1


class Newer(Section):
    renamed: ClassVar = {"dimensions": Renamed("sizes")}
    sizes: Sizes = Sizes()


OLD_NAMES = [
    ("dimensions: {large: very, count: 2}\n", [], "huge", 2),
    ("dimensions:\n  count: 3\n", ["sizes.big=huge"], "huge", 3),
    ("sizes: {count: 4}\n", ["dimensions.large=very"], "huge", 4),
    ("", ["dimensions={large: some, count: 5}"], "some", 5),
]


@pytest.mark.parametrize(("text", "words", "big", "count"), OLD_NAMES)
def test_keys_and_values_by_their_names_of_the_version_before_are_read_with_a_warning(
    tmp_path: Path, text: str, words: list[str], big: str, count: int
) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(text)
    with pytest.warns(RenamedWarning) as told:
        resolved = resolve(Newer, file, words)
    assert str(told[0].message).endswith("dimensions is now called sizes; the old name goes with the next version")
    assert resolved.value == Newer(sizes=Sizes(big=big, count=count))
    origins = {key: origin for key, _, origin in resolved.rows()}
    assert origins == {
        "sizes.big": "command line" if "large" not in text else str(file),
        "sizes.count": str(file) if text else "command line",
    }


def test_the_old_name_of_a_value_is_told_with_its_key() -> None:
    with pytest.warns(RenamedWarning) as told:
        assert resolve(Newer, None, ["dimensions.large=very"]).value.sizes.big == "huge"
    assert [str(one.message).partition(";")[0] for one in told] == [
        "command line: dimensions is now called sizes",
        "command line: sizes.large is now called sizes.big",
        "command line: sizes.big=very is now called huge",
    ]


def test_a_key_under_both_of_its_names_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text("dimensions: {count: 2}\nsizes: {count: 3}\n")
    with pytest.raises(UserError, match=rf"{file}: dimensions is the old name of sizes, and both are given"):
        resolve(Newer, file)


def test_what_was_recorded_under_old_names_is_read_under_the_new_ones() -> None:
    found, _ = current_names(Newer, {"dimensions": {"large": "very", "count": 2}, "unknown": 1})
    assert found == {"sizes": {"big": "huge", "count": 2}, "unknown": 1}
