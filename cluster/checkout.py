"""What of this checkout travels to a cluster: the code and its configurations, never weights, data or secrets."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from asr.errors import UserError

MAX_BYTES = 100_000_000
_SHOWN = 3

# In the words of .gitignore, over what the checkout's own .gitignore and .rayignore files leave out.
EXCLUDED = (
    *(".git", ".venv", "venv", "env", "node_modules", "__pycache__", ".*_cache", ".cache", ".hypothesis", "*.egg-info"),
    *("/runs", "/data", "/build", "/dist", "wandb"),
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*.gguf", "*.h5", "*.msgpack"),
    *("*.wav", "*.flac", "*.mp3", "*.ogg", "*.opus", "*.m4a", "*.aac", "*.webm", "*.mp4", "*.g722", "*.sln16"),
    *("*.parquet", "*.arrow", "*.tar", "*.gz", "*.tgz", "*.zip", "*.zst", "*.xz", "*.bz2"),
    *(".env", ".env.*", "*.pem", "*.key", "*.p12", "auth_token", ".netrc", "credentials", "credentials.json"),
)


@dataclass(frozen=True)
class Checkout:
    """A folder with this project in it."""

    root: Path

    @classmethod
    def here(cls) -> Checkout:
        """Return the checkout that this very file is in. Raises UserError where it is an installed copy."""
        root = Path(__file__).resolve().parent.parent
        if not (root / "pyproject.toml").is_file() or not (root / "constraints.txt").is_file():
            raise UserError(
                f"{root}: not a checkout, and it is the checkout that a cluster gets",
                "clone the repository and install it with pip install --editable .",
            )
        return cls(root)

    def files(self) -> list[str]:
        """Return the names of what travels, from the root on and sorted."""
        return sorted(self._walk(self.root, [(self.root, GitIgnoreSpec.from_lines(EXCLUDED))]))

    def _walk(self, folder: Path, rules: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[str]:
        rules = [
            *rules,
            *((folder, spec) for spec in map(_rules, (folder / ".gitignore", folder / ".rayignore")) if spec),
        ]
        for entry in os.scandir(folder):
            path = Path(entry.path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if any(spec.match_file(path.relative_to(base).as_posix() + "/" * is_folder) for base, spec in rules):
                continue
            if is_folder:
                yield from self._walk(path, rules)
            elif entry.is_file():  # a link's target too; sockets and links to folders are not
                yield path.relative_to(self.root).as_posix()

    def pack(self, archive: Path, others: Mapping[str, Path] | None = None) -> int:
        """Write a zip of what travels, and of ``others`` (name -> file), and return its number of files.

        The same files give the same archive, byte for byte, so that a cluster that has it is not sent it again. Raises
        UserError where the files are over MAX_BYTES together, naming the biggest.
        """
        found = {name: self.root / name for name in self.files()} | dict(others or {})
        sizes = {name: path.stat().st_size for name, path in found.items()}
        if (total := sum(sizes.values())) > MAX_BYTES:
            biggest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
            shown = ", ".join(f"{name} ({sizes[name] / 1e6:.0f} MB)" for name in biggest)
            raise UserError(
                f"{self.root}: {total / 1e6:.0f} MB would travel to the cluster, over {MAX_BYTES / 1e6:.0f}; "
                f"the biggest: {shown}",
                "move them out of the checkout, or name them in .rayignore",
            )
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in sorted(found):
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (0o755 if os.access(found[name], os.X_OK) else 0o644) << 16
                zipped.writestr(info, found[name].read_bytes())
        return len(found)

    def commit(self) -> str:
        """Return git's short name of the commit, with ``+`` where files differ from it; "" where git knows none."""
        words = ["git", "-C", str(self.root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""


def _rules(file: Path) -> GitIgnoreSpec | None:
    return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else None
