"""Tars by hand, as no tool writes them: each is an attack on who reads it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

import pytest

from asr.data.sources.tar import MAX_HEADER_BYTES, BrokenTar, TarMember, members

END = bytes(2 * tarfile.BLOCKSIZE)


def file(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, size: bytes | None = None) -> bytes:
    """A member; ``size`` is what its header says instead of the truth, as twelve bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size is not None:
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def number(value: int) -> bytes:
    """A size in base 256, which can be negative."""
    return bytes([0xFF if value < 0 else 0x80]) + value.to_bytes(11, "big", signed=True)


def pax(said: Sequence[tuple[bytes, bytes]]) -> bytes:
    records = b""
    for key, value in said:
        rest = b" " + key + b"=" + value + b"\n"
        length = next(n for n in range(len(rest), len(rest) + 20) if len(str(n)) + len(rest) == n)
        records += str(length).encode() + rest
    return file("pax", records, tarfile.XHDTYPE)


def walked(data: bytes) -> tuple[list[str], str]:
    """The names of what is found, and why the walk ended."""
    names = []
    try:
        for found in members(io.BytesIO(data)):
            names.append(found.name)
    except BrokenTar as broken:
        return names, broken.why
    return names, ""


GOOD = file("a.wav", b"sound") + file("a.txt", b"said")

ATTACKS = {
    "negative": file("b", size=number(-512)),
    "negative to the begin": file("b", size=number(-len(GOOD) - 512)),
    "negative in octal": file("b", size=b"-0000001000\0"),
    "negative folder": file("b", kind=tarfile.DIRTYPE, size=number(-1024)),
    "negative in pax": pax([(b"size", b"-1536")]) + file("b"),
    "no number in pax": pax([(b"size", b"inf")]) + file("b"),
    "many digits": pax([(b"size", b"9" * 5000)]) + file("b"),
    "pax of no length": file("pax", b"0 a=b\n", tarfile.XHDTYPE) + file("b"),
    "pax longer than it is": file("pax", b"99999 a=b\n", tarfile.XHDTYPE) + file("b"),
    "digits for a slow search": file("pax", b"9" * MAX_HEADER_BYTES, tarfile.XHDTYPE) + file("b"),
    "a name of a terabyte": file("L", kind=tarfile.GNUTYPE_LONGNAME, size=number(1 << 40)),
    "a name of less than nothing": file("L", kind=tarfile.GNUTYPE_LONGNAME, size=number(-1024)),
    "names for ever": file("L", b"x\0", tarfile.GNUTYPE_LONGNAME) * 20_000,
    "pax for ever": pax([(b"a", b"b")]) * 20_000,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_header_that_leads_astray_ends_the_walk(attack: str) -> None:
    """Of these, ``tarfile`` never ends with some, and raises what nobody expects with the others."""
    names, why = walked(GOOD + ATTACKS[attack] + file("c") + END)
    assert names == ["a.wav", "a.txt"]
    assert why


@pytest.mark.parametrize("size", [1 << 60, 1 << 80])
def test_a_file_larger_than_all_disks(size: int) -> None:
    names, why = walked(GOOD + file("b", size=number(size)) + file("c") + END)
    assert (names, bool(why)) == (["a.wav", "a.txt", "b"], True)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_it_finds_what_tarfile_finds(format: int) -> None:
    names = ["a.wav", "ä/ü.txt", f"{'long/' * 18}a.wav", *([f"{'x' * 300}.wav"] if format else [])]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, pax_headers={"comment": "all"}) as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            other = tarfile.TarInfo(f"other{kind!r}")
            other.type, other.linkname = kind, "x" * (300 if format else 3)
            tar.addfile(other)
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        expected = [TarMember(each.name, each.offset_data, each.size, False) for each in tar if each.isfile()]
    assert [one for one in members(io.BytesIO(buffer.getvalue())) if not one.link] == expected
    assert [one.name for one in expected] == names


def test_what_has_holes_is_said_to() -> None:
    """Its bytes are not those of the file; their number is, and the next one is found behind them."""
    old = bytearray(file("b.wav", b"x" * 600, tarfile.GNUTYPE_SPARSE))
    new = pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.name", b"c.wav")]) + file("GNUSparseFile.0/c.wav", b"y")
    found = list(members(io.BytesIO(bytes(old) + new + file("d.wav") + END)))
    assert [(one.name, one.sparse) for one in found] == [("b.wav", True), ("c.wav", True), ("d.wav", False)]


def link(name: str, target: str, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("between", [bytes(512), END, bytes(10240)])
def test_a_second_tar_joined_on_vanished_behind_the_zeros(between: bytes) -> None:
    assert walked(GOOD + between + file("b.wav") + END) == (["a.wav", "a.txt", "b.wav"], "")
    assert walked(GOOD + between) == (["a.wav", "a.txt"], "")
    assert walked(GOOD + between + bytes(3)) == (["a.wav", "a.txt"], "")
    for junk in (b"x" * 600, b"x"):
        names, why = walked(GOOD + between + junk)
        assert names == ["a.wav", "a.txt"] and why
    with pytest.raises(BrokenTar) as broken:
        list(members(io.BytesIO(GOOD + between + b"x" * 512)))
    assert broken.value.ended and broken.value.at == len(GOOD + between)


def test_a_link_is_its_target_where_that_came_before() -> None:
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    tar = (
        file("./x/a.wav", b"sound")
        + link("x/hard.wav", "x/a.wav", hard)
        + link("y/soft.wav", "../x/hard.wav", soft)
        + link("x/later.wav", "x/b.wav", hard)
        + link("out.wav", "/etc/passwd", soft)
        + link("up.wav", "../../x/a.wav", soft)
        + file("x/b.wav", b"other")
    )
    found = {one.name: one for one in members(io.BytesIO(tar + END))}
    first = found["./x/a.wav"]
    assert (first.offset, first.size) == (512, 5)
    assert found["x/hard.wav"][1:] == found["y/soft.wav"][1:] == first[1:]
    lost = {name: one.link for name, one in found.items() if one.link}
    assert lost == {"x/later.wav": "x/b.wav", "out.wav": "/etc/passwd", "up.wav": "../../x/a.wav"}
