"""Git asked about real repositories, some of which were made to harm who asks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster import git


def run(root: Path, *words: str) -> str:
    person = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *person, "-C", str(root), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(root: Path, *names: str) -> Path:
    """A repository with one commit of these files."""
    root.mkdir(exist_ok=True)
    run(root, "init", "--quiet")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    run(root, "add", "--all")
    run(root, "commit", "--quiet", "--message", "one")
    return root


def test_what_is_tracked_and_what_is_not_whatever_it_is_called(tmp_path: Path) -> None:
    root = repository(tmp_path, "a.py", "ü b.py", "line\nbreak.py", "deep/c.py")
    (root / ".gitignore").write_text("*.log\n")
    for name in ("new.py", "two\nlines", "x.log", "folder/d.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    assert set(git.tracked(root)) == {"a.py", "ü b.py", "line\nbreak.py", "deep/c.py"}
    assert set(git.tracked(root / "deep")) == {"c.py"}
    assert sorted(git.untracked(root)) == [".gitignore", "folder/", "new.py", "two\nlines"]


def test_the_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    root = repository(tmp_path, "a.py", "b.py")
    (root / "link").symlink_to("a.py")
    run(root, "add", "link")
    assert git.commit(root) == run(root, "rev-parse", "--short=12", "HEAD") + "+"  # staged
    run(root, "commit", "--quiet", "--message", "two")
    clean = run(root, "rev-parse", "--short=12", "HEAD")
    (root / "a.py").touch()
    (root / "untracked").touch()
    assert git.commit(root) == clean
    for change in (lambda: (root / "a.py").write_text("b"), lambda: (root / "a.py").unlink()):
        change()
        assert git.commit(root) == clean + "+"
        run(root, "checkout", "a.py")
    (root / "link").unlink()
    (root / "link").symlink_to("b.py")
    assert git.commit(root) == clean + "+"


@pytest.mark.parametrize("setting", ["core.fsmonitor", "core.hooksPath", "filter.x.clean", "diff.external"])
def test_a_checkout_s_own_settings_run_nothing(tmp_path: Path, setting: str) -> None:
    root = repository(tmp_path / "checkout", "a.py")
    (root / ".gitattributes").write_text("*.py filter=x diff=x\n")
    run(root, "add", "--all")
    run(root, "commit", "--quiet", "--message", "two")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    proof = tmp_path / "it-ran"
    for script in (hooks / "post-index-change", hooks / "reference-transaction", tmp_path / "program"):
        script.write_text(f"#!/bin/sh\ntouch {proof}\ncat\n")
        script.chmod(0o755)
    run(root, "config", setting, str(hooks if setting == "core.hooksPath" else tmp_path / "program"))
    (root / "a.py").write_text("b.py")  # as long as before, so that git has to compare
    assert git.commit(root).endswith("+")
    assert set(git.tracked(root)) == {"a.py", ".gitattributes"} and git.untracked(root) == []
    assert not proof.exists()
    if setting in ("core.fsmonitor", "filter.x.clean"):  # the attack is real: this is what git does when asked plainly
        run(root, "status")
        assert proof.exists()


def test_a_work_tree_elsewhere_is_not_listed(tmp_path: Path) -> None:
    root = repository(tmp_path / "here", "a.py")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "private").write_text("x")
    run(root, "config", "core.worktree", str(tmp_path / "there"))
    with pytest.raises(git.NoGit, match="files lie in"):
        git.tracked(root)


def test_missing_objects_are_fetched_from_nowhere(tmp_path: Path) -> None:
    """A partial clone asks its remote for what it lacks, by a command that its own settings may name."""
    root = repository(tmp_path / "checkout", "deep/a.py")
    tree = run(root, "rev-parse", "HEAD:deep")
    (root / ".git/objects" / tree[:2] / tree[2:]).unlink()
    proof = tmp_path / "it-ran"
    for words in (
        ("remote.origin.url", f"ext::touch {proof}"),
        ("remote.origin.promisor", "true"),
        ("extensions.partialClone", "origin"),
        ("core.repositoryFormatVersion", "1"),
        ("protocol.ext.allow", "always"),
    ):
        run(root, "config", *words)
    (root / "deep/new.py").write_text("")
    run(root, "update-index", "--add", "deep/new.py")
    assert git.commit(root).endswith("+")
    assert not proof.exists()
    subprocess.run(["git", "-C", str(root), "diff-index", "--cached", "HEAD"], capture_output=True, check=False)
    assert proof.exists()  # the attack is real


def test_variables_that_name_another_repository_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = repository(tmp_path / "one", "a.py"), repository(tmp_path / "two", "b.py")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert set(git.tracked(root)) == {"a.py"}


def test_without_git_or_a_repository_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(git.NoGit, match="not a git repository"):
        git.tracked(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.NoGit, match="git is not installed"):
        git.untracked(tmp_path)
