from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import psutil
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.audio.decode import encode_flac
from asr.data.sources import SourceConfig, rows
from asr.errors import DataError, UserError
from asr.io import storage
from asr.io.address import open_address, parquet_row
from asr.io.parquet import guard as guard_module
from asr.io.parquet.guard import Guard, guard
from asr.io.parquet.row_groups import Table, audio_cells, batches, open_parquet
from asr.utterance import Utterance

# Of 71 bytes: a footer of two columns, with a row group of three.
KILLER = bytes.fromhex(
    "504152311502193c4806736368656d61150400150c25021805617564696f00150c2502180474657874001602191c193c2600"
    "002600002600001600160200003b00000050415231"
)

# Of 212 and 229 bytes: three texts in a delta encoding, whose lengths say that there are half a billion.
LENGTHS, PREFIXES = (
    bytes.fromhex(
        "504152311500153615362c150615001506150600000500000052494646780500000052494646780500000052494646781500" + page
    )
    for page in (
        "153815382c1506150c150615060000808080800204808080800200000000000068656c6c6f20776f726c641502193c480673"
        "6368656d61150400150c25001805617564696f00150c25001804746578742500001606191c192c26081c150c192500061918"
        "05617564696f15001606165816582608000026601c150c192500061918047465787415001606165a165a2660000016b20116"
        "0600006e00000050415231",
        "155a155a2c1506150e1506150600008080808002048080808002000000000000808080800204808080800200000000000068"
        "656c6c6f20776f726c641502193c4806736368656d61150400150c25001805617564696f00150c2500180474657874250000"
        "1606191c192c26081c150c19250006191805617564696f15001606165816582608000026601c150c19250006191804746578"
        "7415001606167c167c2660000016d401160600006e00000050415231",
    )
)


@pytest.fixture
def killer(tmp_path: Path) -> Path:
    path = tmp_path / "killer.parquet"
    path.write_bytes(KILLER)
    return path


def test_71_bytes_ended_the_process(killer: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="footer"):
        list(rows(SourceConfig(source=str(killer)), tmp_path / "cache"))


def test_71_bytes_at_an_address_ended_the_process(killer: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match="footer"):
            open_address(f"{killer}#row_group=0&row=0&column=audio")


@pytest.mark.medium
def test_a_footer_took_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 200_000  # of three bytes each, for which pyarrow keeps some hundred MB
    columns = bytes([0x19, 0xFC, *(count >> 7 * at & 127 | 128 * (at < 2) for at in range(3))]) + b"\x26\0\0" * count
    footer = KILLER[4:-8].replace(bytes.fromhex("193c260000260000260000"), columns)
    (tmp_path / "a").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    monkeypatch.setattr(guard_module, "MEMORY_BYTES", 32 << 20)
    guard().close()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="memory"):
        open_parquet(str(tmp_path / "a"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (32 << 10)
    guard().close()


@pytest.mark.medium
@pytest.mark.parametrize("content", [LENGTHS, PREFIXES])
@pytest.mark.parametrize("where", ["local", "far"])
def test_a_page_of_a_hundred_bytes_took_gigabytes(content: bytes, where: str, tmp_path: Path, s3: str) -> None:
    place = storage.join(s3 if where == "far" else str(tmp_path), "a.parquet")
    storage.write_bytes(place, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="too much memory"):
        list(rows(SourceConfig(source=place), tmp_path / "cache"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (64 << 10)
    assert len(open_address(parquet_row(place, 0, 2, "audio"))[0].read()) == 5


@pytest.mark.medium
def test_a_process_that_took_too_much_was_said_to_crash_where_its_memory_went_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket was closed first: whoever hears of that asks how it ended, and kills what has not ended soon after."""
    left: list[int] = []
    end_of = Guard.end_of

    def asked(self: Guard, pid: int) -> int:
        left.append(int(Path(f"/proc/{pid}/statm").read_text().split()[0]))
        return end_of(self, pid)

    monkeypatch.setattr(Guard, "end_of", asked)
    (tmp_path / "a.parquet").write_bytes(LENGTHS)
    for attempt in range(8):
        with pytest.raises(UserError, match="too much memory"):
            list(rows(SourceConfig(source=str(tmp_path / "a.parquet")), tmp_path / str(attempt)))
    assert left and not any(left)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Table]:
    """40 MB of audio in a row group."""
    cells = [Random(n).randbytes(400_000) for n in range(100)]
    pq.write_table(pa.table({"audio": cells}), tmp_path / "many")
    table = open_parquet(str(tmp_path / "many"))
    yield table
    table.close()


def readers() -> list[psutil.Process]:
    """The processes that read pages for this one."""
    return psutil.Process(guard().pid).children()


@pytest.mark.medium
def test_a_page_that_crashes_its_reader_ended_the_run(many: Table) -> None:
    cells = audio_cells(many, 0, "audio")
    next(cells)
    readers()[-1].send_signal(signal.SIGABRT)
    with pytest.raises(DataError, match="crash"):
        list(cells)
    assert sum(map(len, audio_cells(many, 0, "audio"))) == 100  # another one is read as before


@pytest.mark.medium
@pytest.mark.parametrize("killed", [lambda: readers()[-1], lambda: psutil.Process(guard().pid)])
def test_where_the_machine_needs_its_memory_no_row_is_lost_or_met_twice(
    many: Table, killed: Callable[[], psutil.Process]
) -> None:
    expected = [cell for part in audio_cells(many, 0, "audio") for cell in part.to_pylist()]
    cells = audio_cells(many, 0, "audio")
    heard = next(cells).to_pylist()
    killed().kill()
    assert heard + [cell for part in cells for cell in part.to_pylist()] == expected


@pytest.mark.medium
def test_where_the_machine_needs_its_memory_a_footer_is_read_again(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a")
    guard()._process.kill()
    open_parquet(str(tmp_path / "a")).close()
    with ThreadPoolExecutor(1) as pool:  # nor does it end with who asked first
        pool.submit(guard().close).result()
        pool.submit(guard).result()
    open_parquet(str(tmp_path / "a")).close()


@pytest.mark.medium
def test_who_is_forked_in_the_middle_reads_on_and_so_does_its_parent(many: Table) -> None:
    expected = [cell for part in audio_cells(many, 0, "audio") for cell in part.to_pylist()]
    cells = audio_cells(many, 0, "audio")
    heard = next(cells).to_pylist()
    pid = os.fork()
    if not pid:
        try:
            rest = [cell for part in cells for cell in part.to_pylist()]
            os._exit(0 if heard + rest == expected else 3)
        finally:
            os._exit(4)
    assert heard + [cell for part in cells for cell in part.to_pylist()] == expected
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.medium
def test_a_reader_that_nobody_listens_to_ends(many: Table) -> None:
    cells = audio_cells(many, 0, "audio")
    next(cells)
    reader = readers()[-1]
    cells.close()  # type: ignore[attr-defined]
    while reader.is_running() and reader.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


@pytest.mark.medium
def test_a_file_has_one_reader_and_a_footer_is_read_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"audio": [b"a" * 9] * 200, "text": ["b"] * 200}), tmp_path / "a", row_group_size=1)
    table = open_parquet(str(tmp_path / "a"))
    before = {reader.pid for reader in readers()}
    for group in range(200):
        assert [batch.num_rows for batch in batches(table, group, ["text"], 1000)] == [1]
    assert {reader.pid for reader in readers()} == before
    table.close()


@pytest.mark.medium
def test_thousands_of_row_groups_that_are_kept_took_a_descriptor_each(tmp_path: Path) -> None:
    pq.write_table(pa.table({"audio": [b"a" * 9] * 200}), tmp_path / "a.parquet", row_group_size=1)
    descriptors = []
    for group in range(200):
        open_address(parquet_row(str(tmp_path / "a.parquet"), group, 0, "audio"))
        descriptors.append(len(os.listdir("/proc/self/fd")))
    assert descriptors[-1] == descriptors[1]


def test_what_is_put_in_a_files_place_meanwhile_is_another_file(tmp_path: Path) -> None:
    for name in "ab":
        pq.write_table(pa.table({"text": [name] * 4, "audio": [b"x"] * 4}), tmp_path / name, row_group_size=2)
    found = rows(SourceConfig(format="parquet", source=str(tmp_path / "a")), tmp_path / "cache")
    first = next(found)
    (tmp_path / "b").rename(tmp_path / "a")
    assert [row.text for row in (first, *found) if isinstance(row, Utterance)] == ["a"] * 4


def test_a_file_that_was_made_shorter_was_read_for_ever(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a" * 99] * 4, "audio": [b"x"] * 4}), tmp_path / "a", row_group_size=2)
    found = rows(SourceConfig(format="parquet", source=str(tmp_path / "a")), tmp_path / "cache")
    next(found)
    next(found)
    os.truncate(tmp_path / "a", 100)
    with pytest.raises(UserError, match=r"read|deserialize"):
        list(found)


def test_a_pipe_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(OSError, match="pipe"):
        open_parquet(str(tmp_path / "a.parquet"))


def test_a_crash_beside_good_files_is_one_line(killer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    killer.rename(folder / "metadata.parquet")
    (folder / "a.flac").write_bytes(encode_flac(np.zeros(1600, np.float32)))
    with pytest.raises(UserError, match="footer"):
        list(rows(SourceConfig(source=str(folder)), tmp_path / "cache"))


@pytest.mark.medium
def test_no_wrong_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"audio": [b"a"] * 9, "text": [["b"], []] * 4 + [None]}), tmp_path / "a", store_schema=False
    )
    whole = (tmp_path / "a").read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    random, ended = Random(1), 0
    for _ in range(100):
        wrong = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            wrong[len(whole) - 8 - random.randint(1, footer)] = random.randrange(256)
        (tmp_path / "b").write_bytes(wrong)
        try:
            open_parquet(str(tmp_path / "b")).close()
        except ValueError as error:
            ended += "crash" in str(error)
        assert guard().alive
    assert ended  # some do: else this test would show nothing
