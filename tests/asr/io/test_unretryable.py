"""Full disks and the like, from where they are met to the line that a person reads."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import ray.exceptions
import ray.train
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from asr.errors import UserError
from asr.io import storage, transfer
from asr.io.cache import complete_or_absent
from asr.io.folders import require_writable
from asr.io.unretryable import unretryable, writing
from tests.asr.disks import fill, read_only, small_disk

MEGABYTE = bytes(2**20)


def upload(place: Path) -> None:
    source = place.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "last").write_bytes(MEGABYTE)
    transfer.upload(source, place / "copy", last="last")


def cached(place: Path) -> None:
    with complete_or_absent(place / "cached") as draft:
        (draft / "weights").write_bytes(MEGABYTE)


def saved_by_torch(place: Path) -> None:
    torch.save({"weight": torch.zeros(2**18)}, place / "optimizer.pt")


def saved_safely(place: Path) -> None:
    save_file({"weight": torch.zeros(2**18)}, place / "model.safetensors")


def tokenizer(place: Path) -> None:
    """Words enough for half a megabyte: Rust's error comes as a bare Exception."""
    Tokenizer(WordLevel({f"{number:016d}": number for number in range(2**14)}, "?")).save(str(place / "tokenizer.json"))


WRITERS: list[Callable[[Path], object]] = [
    lambda place: (place / "clip.flac").write_bytes(MEGABYTE),
    lambda place: storage.write_bytes(place / "record.json", MEGABYTE),
    lambda place: pq.write_table(pa.table({"a": [os.urandom(2**20)]}), place / "quarantine.parquet"),
    upload,
    cached,
    saved_by_torch,
    saved_safely,
    tokenizer,
]
NAMES = ["python", "storage", "pyarrow", "upload", "cache", "torch", "safetensors", "tokenizers"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 1) as place:
        yield place


@pytest.mark.parametrize("write", WRITERS, ids=NAMES)
def test_a_full_disk_is_told_by_whoever_wrote_on_it(write: Callable[[Path], object], disk: Path) -> None:
    fill(disk, leave=65536)
    with pytest.raises(UserError, match="no space left") as caught, writing(disk, "a checkpoint of 1 MB", "go on"):
        write(disk)
    assert caught.value.message.startswith(str(disk))
    assert " MB are free" in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", WRITERS, ids=NAMES)
def test_a_read_only_disk_is_told_too(write: Callable[[Path], object], disk: Path) -> None:
    read_only(disk)
    with pytest.raises(UserError, match="read-only file system") as caught, writing(disk):
        write(disk)
    assert str(disk) in caught.value.message


LIMITED = """
import resource, sys
from pathlib import Path
from asr.io.unretryable import writing
from tests.asr.io.test_unretryable import saved_by_torch, saved_safely, upload
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
for write in (lambda place: (place / "a").write_bytes(bytes(2**20)), saved_safely, upload, saved_by_torch):
    try:
        with writing(sys.argv[1]):
            write(Path(sys.argv[1]))
    except BaseException as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "folder")],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all(line.startswith(f"UserError {tmp_path}") for line in lines), lines
    assert all("a file larger than is allowed" in line for line in lines[:2])


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raised(outer: Exception, inner: Exception, how: str) -> Exception:
    """``outer`` as it is after it was raised from, or in the handling of, ``inner``."""
    try:
        try:
            raise inner
        except Exception as cause:
            if how == "from":
                raise outer from cause
            raise outer  # noqa: B904
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        full(),
        raised(RuntimeError("cannot save"), full(), "from"),
        raised(RuntimeError("cannot save"), full(), "beside"),
        ExceptionGroup("several", [ValueError("a"), full()]),
        ray.train.WorkerGroupError("two died", {0: RuntimeError("the peer is gone"), 1: full()}),
        ray.train.ControllerError(full()),
        pickle.loads(pickle.dumps(ray.train.WorkerGroupError("one died", {0: full()}))),
        ray.exceptions.RayTaskError("f", "Traceback (most recent call last):\nOSError: x", full()),
        RuntimeError("Traceback (most recent call last):\n  x\nOSError: [Errno 28] No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0"),
        OSError("When uploading part: AWS Error UNKNOWN: not enough space"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_it_is_found_however_it_is_wrapped(error: Exception) -> None:
    mistake = unretryable(error, "/runs/a", "a checkpoint")
    assert mistake is not None
    assert mistake.message.startswith("/runs/a: no space left for a checkpoint")
    assert mistake.hint == "free some space: the same command goes on"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "no", "/data/a.flac"), "/data/a.flac: no permission"),
        (OSError(errno.EDQUOT, "no"), "/runs/a: over the disk quota"),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation"), "/runs/a: no permission"),
        (OSError(errno.ENAMETOOLONG, "no", "/runs/a/b"), "/runs/a: a name that is too long"),
        (
            PermissionError(errno.EACCES, "[Errno 13] Failed to open local file '/data/a'. Detail: no"),
            "/data/a: no permission",
        ),
        (OSError("When getting information for key 'a' in bucket 'b': Access Denied"), "/runs/a: no permission"),
        (
            RuntimeError(
                "Traceback (most recent call last):\n  x\nPermissionError: [Errno 13] Permission denied: '/d/a'"
            ),
            "/d/a: no permission",
        ),
        (Exception("Permission denied (os error 13)"), "/runs/a: no permission"),  # tokenizers
        (UserError("mend it"), "mend it"),
        (ray.train.WorkerGroupError("died", {0: UserError("mend it")}), "mend it"),
    ],
)
def test_what_a_person_must_mend_names_the_place(error: Exception, said: str) -> None:
    mistake = unretryable(error, "/runs/a")
    assert mistake is not None and mistake.message == said


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        FileNotFoundError(errno.ENOENT, "no", "/x"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        OSError(errno.EIO, "Input/output error"),
        KeyError("permission denied"),
        raised(KeyError("a bug"), PermissionError(errno.EACCES, "no"), "beside"),
        ray.train.WorkerGroupError("died", {0: RuntimeError("a node is gone")}),
        RuntimeError("NCCL error: socket connect: Permission denied"),
        RuntimeError("Failed to open '/dev/nvidia-caps': permission denied by the driver"),
        PermissionError(errno.EACCES, "Permission denied"),  # a port below 1024
        PermissionError(errno.EPERM, "Operation not permitted"),  # another user's process
        RuntimeError("Traceback (most recent call last):\n  x\nRuntimeError: ptrace: permission denied"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_bugs_and_what_may_go_better_next_time_are_left_alone(error: Exception) -> None:
    assert unretryable(error, "/runs/a") is None
    with pytest.raises(type(error)), writing("/runs/a"):
        raise error


def test_what_cuda_does_not_permit_is_no_matter_of_disks() -> None:
    assert unretryable(RuntimeError("CUDA error: operation not permitted when stream is capturing"), "/runs/x") is None


def test_what_is_free_is_said_of_a_relative_place_too(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk)
    for place in ("record.json", ".", "./new/record.json"):
        mistake = unretryable(full(), place)
        assert mistake is not None
        here = place != "./new/record.json"
        assert mistake.message == f"{place}: no space left" + (", 1.0 of 1 MB are free" if here else "")
    (disk / "new").mkdir()
    said = unretryable(full(), "new/record.json")
    assert said is not None and said.message.endswith(" of 1 MB are free")
    of_a_bucket = unretryable(full(), "bucket/runs/a")  # as pyarrow has it
    assert of_a_bucket is not None and of_a_bucket.message == "bucket/runs/a: no space left"


def by_storage(place: Path) -> None:
    storage.write_bytes(place, MEGABYTE)


def by_copy(place: Path) -> None:
    (place.parents[2] / "README.md").write_text("a")
    transfer._copy((str(place.parents[2] / "README.md"), str(place)))


def by_python(place: Path) -> None:
    with writing(place):
        place.write_bytes(MEGABYTE)


def by_make(place: Path) -> None:
    with writing(place):
        place.mkdir(parents=True)


@pytest.mark.parametrize("write", [by_storage, by_copy, by_make, by_python])
def test_a_file_in_a_folders_place_is_told_by_that_and_not_by_what_was_to_lie_in_it(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        write(tmp_path / "file" / "artifact" / "README.md")
    assert caught.value.message == f"{tmp_path}/file: a file is where a folder should be"


def test_a_missing_folder_is_told_by_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        by_python(tmp_path / "run" / "artifact" / "README.md")
    assert caught.value.message == f"{tmp_path}/run: no such folder"
    for write in (by_storage, by_make):  # which make it themselves, where that can be
        with pytest.raises(UserError) as caught:
            write(Path("/proc/nothing/artifact/README.md"))
        assert caught.value.message == "/proc/nothing: no such folder, and it cannot be made"


def test_a_file_in_the_place_of_the_folder_itself_was_a_traceback(tmp_path: Path) -> None:
    """Of ``compare --out FILE``, and of a file where a folder inside it is to be made."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    for act, place in ((Path.mkdir, tmp_path), (require_writable, tmp_path / "file"), (os.listdir, tmp_path / "file")):
        with pytest.raises(UserError) as caught, writing(place):
            act(tmp_path / "file")
        assert caught.value.message == f"{tmp_path}/file: a file is where a folder should be"
    for place in (Path("/proc/nothing"), tmp_path / "link"):
        with pytest.raises(UserError) as caught, writing(place):
            require_writable(place)
        assert caught.value.message == f"{place}: no such folder, and it cannot be made"


def test_a_folder_that_takes_no_files_was_a_traceback() -> None:
    """Of ``data prepare --out /proc`` and ``export MODEL /proc/x``: drafts lie in the place, or beside it."""
    for place, draft in (("/proc", "/proc/a"), ("/proc/x", "/proc/.x-draft")):
        with pytest.raises(UserError) as caught, writing(place):
            Path(draft).mkdir()
        assert caught.value.message == "/proc: no file can be made there"
    with pytest.raises(UserError), writing("/proc"):
        require_writable(Path("/proc"))


def test_a_missing_file_that_was_to_be_read_is_no_matter_of_the_folder(tmp_path: Path) -> None:
    for missing in (tmp_path / "out" / "a", Path("/elsewhere/a")):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError), writing(tmp_path / "out"):
            missing.read_text()
