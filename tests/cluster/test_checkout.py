"""What is in the archive that a cluster gets, of checkouts with secrets in them."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from asr.errors import UserError
from cluster import checkout as checkout_module
from cluster.checkout import Checkout, Contents
from tests.cluster.test_git import repository, run

ROOT = Path(__file__).resolve().parents[2]
SECRETS = (
    *("id_rsa", ".ssh/id_ed25519", ".ssh/config", "service-account.json", ".git-credentials", ".npmrc", ".pypirc"),
    *(".envrc", ".env", "prod.env", "keys.yaml", "configs/keys.yaml", "asr/.env", "kubeconfig", "train/id_rsa"),
    *(
        "asr/service-account.json",
        "asr/static/.env",
        "asr/.ssh/x.py",
        ".aws/credentials",
        "notes.txt",
        "terraform.tfstate",
        "dump.sql",
    ),
)
PROGRAM = ("pyproject.toml", "constraints.txt", "asr/__init__.py", "asr/a.py", "configs/demo.yaml")
PROJECT = "[project]\n"


def project(root: Path) -> Path:
    """A checkout with this project's shape, all of it tracked."""
    repository(root, *PROGRAM)
    (root / "pyproject.toml").write_text(PROJECT)
    run(root, "commit", "--quiet", "--all", "--message", "two")
    return root


def add(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"secret of " + os.fsencode(name))


def packed(contents: Contents, folder: Path) -> dict[str, bytes]:
    """What is in the real archive."""
    contents.pack(folder / "packed.zip")
    with zipfile.ZipFile(folder / "packed.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.medium
def test_this_checkout_travels_as_git_tracks_it_and_nothing_in_it_looks_like_a_secret(tmp_path: Path) -> None:
    checkout = Checkout.here()
    contents = checkout.contents()
    assert {"constraints.txt", "pyproject.toml", "train/corpus/corpus.py", "configs/demo.yaml"} <= set(contents.files)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if tracked:
        assert set(contents.files) == {name for name in tracked.split("\0") if name and (ROOT / name).is_file()}
        assert checkout.commit()
    assert not [remark for remark in contents.remarks if "secrets" in remark]
    assert contents.pack(tmp_path / "a.zip") == len(contents.files)
    assert (tmp_path / "a.zip").stat().st_size < 5e6


@pytest.mark.parametrize("known", ["tracked", "no repository", "no git", "somebody else's repository"])
def test_secrets_and_what_links_lead_to_do_not_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    root = project(tmp_path / "checkout")
    add(root, *SECRETS)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.py").write_text("secret of elsewhere")
    for link, target in {
        "asr/outside.py": tmp_path / "elsewhere" / "x.py",
        "asr/folder": tmp_path / "elsewhere",
        "asr/inside.py": "../.env",  # in the checkout, but untracked
        "asr/same.py": "a.py",
        "asr/nowhere.py": "gone.py",
    }.items():
        (root / link).symlink_to(target)
    run(root, "add", "asr/outside.py", "asr/folder", "asr/inside.py", "asr/same.py", "asr/nowhere.py")
    if known == "somebody else's repository":
        repository(tmp_path)
    if known in ("no repository", "somebody else's repository"):
        (root / ".git").rename(tmp_path / "away")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if known == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    contents = Checkout(root).contents()
    found = packed(contents, tmp_path)
    assert set(found) == {*PROGRAM, "asr/same.py"}
    assert not [name for name, content in found.items() if b"secret" in content]
    said = "\n".join(contents.remarks)
    if known == "tracked":
        assert "left here: links to what does not travel, and submodules: asr/folder, asr/inside.py, asr/nowh" in said
        assert " that git does not track" in said
    else:
        assert "only the program travels, and what is named (git does not say what else: " in said
    assert len(contents.remarks) <= 2


def test_what_is_named_travels_and_nothing_beside_it(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    add(root, "configs/mine.yaml", "configs/other.yaml", "notes/a.jsonl", "notes/.env", "notes/deep/b.jsonl", ".envrc")
    (root / "notes" / "link").symlink_to(tmp_path)
    (tmp_path / "b.yaml").write_text("base: x")
    checkout = Checkout(root)
    brought = {"configs/mine.yaml": root / "configs/mine.yaml", "brought/b.yaml": tmp_path / "b.yaml"}
    asked = checkout.asked(root / "notes", [".", "../.envrc"])
    assert asked == ["notes", ".envrc"]
    contents = checkout.contents(asked, brought)
    others = {"configs/mine.yaml", "brought/b.yaml", "notes/a.jsonl", "notes/deep/b.jsonl", ".envrc"}
    assert set(packed(contents, tmp_path)) == {*PROGRAM, *others}
    assert [*contents.remarks] == [
        "left here: 1 that git does not track (configs/other.yaml); to take one: git add, or --with PATH"
    ]


def test_no_folder_brings_what_is_called_as_a_secret_is(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    names = ("hf_token", "gcp-key.json", "application_default_credentials.json", "id_ed25519_work", ".boto", ".s3cfg")
    names += (".vault-token", "api_keys.yaml", "adminsdk.json", "ID_RSA", "Keys.yaml", "Secrets.YAML")
    add(root, *(f"mine/{name}" for name in names), "mine/tokenizer.json", "mine/id_rsa.pub", "mine/keyboard.csv")
    taken = set(Checkout(root).contents(["mine"]).files) - set(PROGRAM)
    assert taken == {"mine/tokenizer.json", "mine/id_rsa.pub", "mine/keyboard.csv"}


def test_a_tracked_link_to_itself_was_a_traceback(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    (root / "asr" / "loop.py").symlink_to("loop.py")
    run(root, "add", "asr/loop.py")
    contents = Checkout(root).contents()
    assert set(contents.files) == set(PROGRAM)
    assert any("asr/loop.py" in remark for remark in contents.remarks)


@pytest.mark.parametrize(
    ("word", "said"),
    [("gone", "there is no such"), ("..", "outside"), ("link", "outside"), (".git/config", "git's own files")],
)
def test_what_cannot_be_taken_along_is_refused(tmp_path: Path, word: str, said: str) -> None:
    root = project(tmp_path / "checkout")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match=rf"--with {word}: {said}"):
        Checkout(root).asked(root, [word])
    with pytest.raises(UserError, match="there is no such file"):
        Checkout(root).contents(["it-was-there-the-last-time"])


def test_a_tracked_file_that_became_a_link_does_not_bring_its_target(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    (tmp_path / "elsewhere").mkdir()
    add(tmp_path, "id_rsa", "elsewhere/a.py", "elsewhere/__init__.py")
    (root / "configs/demo.yaml").unlink()
    (root / "configs/demo.yaml").symlink_to(tmp_path / "id_rsa")
    (root / "asr").rename(tmp_path / "away")
    (root / "asr").symlink_to(tmp_path / "elsewhere")
    contents = Checkout(root).contents()
    assert set(packed(contents, tmp_path)) == {"pyproject.toml", "constraints.txt"}
    assert "asr/__init__.py, asr/a.py, configs/demo.yaml" in contents.remarks[-1]


def test_tracked_secrets_travel_with_a_warning_and_present_content_is_what_travels(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    add(root, ".env", ".env.example", "deep/id_rsa", "cert.pem", "prod.env")
    run(root, "add", "--all")
    (root / "asr/a.py").write_text("edited")
    (root / "prod.env").unlink()
    contents = Checkout(root).contents()
    found = packed(contents, tmp_path)
    assert found["asr/a.py"] == b"edited" and ".env" in found
    assert contents.remarks == ("these look like secrets and travel, for git tracks them: .env, cert.pem, deep/id_rsa",)
    (root / ".rayignore").write_text(".env\n*.pem\n")  # the way to keep a tracked file here
    (root / "deep/.rayignore").write_text("/id_rsa\n")
    contents = Checkout(root).contents()
    assert set(packed(contents, tmp_path)) == {*PROGRAM, ".env.example"}
    assert [remark for remark in contents.remarks if "secrets" in remark] == []
    assert ".env" in Checkout(root).contents([".env"]).files  # asked for by name


def test_what_stays_is_said_in_a_line_code_first_and_secrets_by_number(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    add(root, *(f"clips/{number}.wav" for number in range(50)), *SECRETS, "new.py", "a.png", "odd\n.py")
    repository(tmp_path / "module", "m.py")
    run(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "module"), "module")
    first, second = Checkout(root).contents().remarks
    assert "that git does not track (new.py, 'odd\\n.py', " in first and first.count("\n") == 0
    assert "id_rsa" not in first and "keys.yaml" not in first and "service-account" not in first
    assert second == "left here: links to what does not travel, and submodules: module"


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    archives = [tmp_path / "1.zip", tmp_path / "2.zip"]
    for archive in archives:
        Checkout(root).contents().pack(archive)
        os.utime(root / "asr/a.py", (1, 1))
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert zipfile.ZipFile(archives[0]).namelist() == sorted(PROGRAM)


def test_too_much_is_refused_with_the_biggest_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path / "checkout", "pyproject.toml", "notes/corpus.json")
    (root / "notes" / "corpus.json").write_bytes(bytes(2_000_000))
    monkeypatch.setattr(checkout_module, "MAX_BYTES", 1_000_000)
    with pytest.raises(
        UserError, match=r"2 MB would travel .* over 1; the biggest: notes/corpus.json \(2 MB\), pyproj"
    ):
        Checkout(root).contents().pack(tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_an_installed_copy_travels_with_its_pins_and_nothing_of_the_working_directory(tmp_path: Path) -> None:
    packages, here = tmp_path / "site-packages", tmp_path / "here"
    for name in (
        "asr/__init__.py",
        "asr/scoring/report.html.j2",
        "whisperfleet/project/configs/demo.yaml",
        "torch/a.py",
    ):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    for name in ("pyproject.toml", "constraints.txt"):
        (packages / "whisperfleet/project" / name).write_text(name)
    add(here, "mine.yaml", "data/train.jsonl", "data/other.jsonl", "id_rsa")
    checkout = Checkout(here, packages)
    contents = checkout.contents(checkout.asked(here, ["data/train.jsonl"]), {"mine.yaml": here / "mine.yaml"})
    assert set(contents.files) == {
        *("asr/__init__.py", "asr/scoring/report.html.j2", "pyproject.toml", "constraints.txt", "configs/demo.yaml"),
        *("data/train.jsonl", "mine.yaml"),
    }
    assert packed(contents, tmp_path)["constraints.txt"] == b"constraints.txt"
    assert (checkout.commit(), contents.remarks) == ("", ())
    assert checkout.pins == packages / "whisperfleet/project"


def test_without_git_nothing_is_known_of_a_commit(tmp_path: Path) -> None:
    assert Checkout(tmp_path).commit() == ""


def test_a_name_that_is_no_utf8_stays_with_a_word_and_ends_no_submit(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    odd = os.fsdecode(b"asr/\xff\xfe.py")
    add(root, odd, "asr/ä.py")
    run(root, "add", "--all")
    contents = Checkout(root).contents(["asr"])
    assert contents.remarks == (r"left here: names that are no UTF-8: 'asr/\udcff\udcfe.py'",)
    assert set(packed(contents, tmp_path)) == {*PROGRAM, "asr/ä.py"}
    with pytest.raises(UserError, match=r"--with 'asr/.udcff.udcfe.py': the name is no UTF-8"):
        Checkout(root).asked(root, [odd])


def test_a_rayignore_that_is_no_utf8_is_read_as_git_reads_one(tmp_path: Path) -> None:
    root = project(tmp_path / "checkout")
    (root / ".rayignore").write_bytes(b"# caf\xe9\n\xff*\nasr/a.py\n")
    add(root, os.fsdecode(b"\xff.py"))
    run(root, "add", "--all")
    contents = Checkout(root).contents()
    assert set(packed(contents, tmp_path)) == {*PROGRAM, ".rayignore"} - {"asr/a.py"}
    assert not contents.remarks
    (root / ".rayignore").write_text("!\n")
    with pytest.raises(UserError, match=r"\.rayignore: Invalid git pattern: '!'"):
        Checkout(root).contents()
