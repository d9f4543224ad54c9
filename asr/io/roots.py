"""Files that the rows of a table may name: those below its own folder, and below the roots that a person listed.

The author of the rows is not the person who configured the source. An address in a row must not choose a host, an
endpoint or a user for the reader's credentials, nor a file of the reader's machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asr.errors import DataError, UserError
from asr.io import storage
from asr.io.address import plain, without_member

REASON = "address_not_allowed"
HINT = "list the folder where it lies as one of audio_roots, or with --audio-root"


class _Parts(NamedTuple):
    """An address in parts: scheme, authority and query, and the path there."""

    where: tuple[str, str]
    path: str
    query: str


@dataclass(frozen=True)
class Roots:
    """A folder, to which the names in a table are relative, and what else they may name: folders, or addresses."""

    folder: str
    others: Sequence[str] = ()

    def address(self, name: str) -> str:
        """Return the address of what a row calls ``name``.

        An address below a root gets the root's query, as that is a person's. Raises DataError
        address_not_allowed for what lies in no root, for a query of the row's own, and for a scheme in it that is
        none of ``ROW_SCHEMES``: in a folder of ``ftp://`` rows have names, no addresses.
        """
        try:
            uri, member = without_member(storage.join(self.folder, plain(name)))
            if "://" in name and storage.is_remote(name) and storage.parts(name)[0] not in storage.ROW_SCHEMES:
                raise UserError(f"{name}: no row names such storage")
            asked = _parts(uri)
        except UserError as error:
            raise DataError(REASON, str(error)) from None
        for root in (self.folder, *self.others):
            allowed = _parts(root)
            if asked.where == allowed.where and _is_within(asked.path, allowed.path):
                if asked.query not in ("", allowed.query):
                    continue
                return f"{uri.removesuffix(asked.query)}{allowed.query}{member}"
        raise DataError(REASON, f"{name}: outside of {self.folder}; {HINT}")


def _parts(uri: str) -> _Parts:
    if not storage.is_remote(uri):
        return _Parts(("", ""), os.path.abspath(storage.local_path(uri)), "")
    scheme, authority, path, query = storage.parts(uri)
    return _Parts((scheme, authority), f"/{path.strip('/')}", query)


def _is_within(path: str, root: str) -> bool:
    if ".." in path.split("/"):
        return False
    return path == root or path.startswith(f"{root.rstrip('/')}/")
