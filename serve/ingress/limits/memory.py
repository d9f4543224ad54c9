"""Memory of all requests' uploads and decoded samples together, and the request that is refused beyond a bound."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

from asr.audio.decode import SAMPLE_RATE
from asr.audio.sandbox_task import Stop
from asr.audio.sounding import SAMPLE_BYTES

SHORT_S = 60.0
SHORT_SAMPLES = round(SHORT_S * SAMPLE_RATE)
# Never refused: all that are in flight are some hundred MB, and others' long recordings are not their fault.
SMALL_BYTES = SHORT_SAMPLES * SAMPLE_BYTES + (1 << 20)  # with its upload
UPLOAD = -1  # the part of a lease that is no channel


class Full(Stop):
    """Raised if there is too much in memory for this recording."""


class Longer(Stop):
    """Raised if a recording is longer than may be decoded here."""


class Left(Stop):
    """Raised if nobody waits for a recording any more."""


class SampleMemory:
    """Bound on the memory of all leases: ``max_bytes``, beside small ones; or one of any size if there is no other.

    Beyond it, the largest lease that is still decoded is stopped, of keys that hold more than their share. A key
    within its share is kept: with K keys there may be 1/2 + ... + 1/K of it more, and what is stopped until it has
    noticed. Called from any thread.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._leases: set[Lease] = set()
        self._bytes = 0
        self._keys: Counter[str] = Counter()  # bytes by key, of those that have any, without leases that are stopped

    @property
    def nbytes(self) -> int:
        """Bytes of all leases."""
        return self._bytes

    def lease(self, key: str) -> Lease:
        """Return a lease for one request of ``key``, to be closed when it is answered."""
        lease = Lease(self, key)
        with self._lock:
            self._leases.add(lease)
        return lease

    def hold(self, lease: Lease, part: int, nbytes: int) -> None:
        """Note what a part of a lease takes. Raises Full where the lease is the one that is stopped."""
        with self._lock:
            if lease not in self._leases:
                return
            grown = nbytes - lease.parts.get(part, 0)
            lease.parts[part] = nbytes
            self._add(lease, grown)
            if grown > 0:
                self._stop_some(lease)
            if lease.is_stopped and nbytes:
                raise Full

    def decoded(self, lease: Lease) -> bool:
        """Note that a lease grows no more, and return whether it is to be kept: it may have been stopped since."""
        with self._lock:
            lease.grows = False
            return not lease.is_stopped

    def drop(self, lease: Lease) -> None:
        """Take a lease out, and its bytes from the sum."""
        with self._lock:
            if lease in self._leases:
                self._leases.remove(lease)
                self._add(lease, -lease.nbytes)

    def _add(self, lease: Lease, nbytes: int) -> None:
        lease.nbytes += nbytes
        self._bytes += nbytes
        if not lease.is_stopped:
            self._count(lease.key, nbytes)

    def _count(self, key: str, nbytes: int) -> None:
        self._keys[key] += nbytes
        if not self._keys[key]:
            del self._keys[key]

    def _stop_some(self, lease: Lease) -> None:
        # What is stopped counts no more: were it waited for, a key could take its place and keep more than a share.
        while self._max_bytes < (kept := self._keys.total()) and (lease.is_stopped or lease.nbytes < kept):
            stoppable = (one for one in self._leases if self._may_stop(one))
            largest = max(stoppable, key=lambda one: one.nbytes, default=None)
            if largest is None:
                break
            self._count(largest.key, -largest.nbytes)
            largest.is_stopped = True

    def _may_stop(self, lease: Lease) -> bool:
        decodes = lease.grows and not lease.is_stopped and lease.nbytes > SMALL_BYTES
        return decodes and self._keys[lease.key] * len(self._keys) > self._max_bytes


class Lease:
    """Memory that one request holds: its upload, and the samples of each channel.

    ``with lease`` is the decoding of it; that raises Full where the lease was stopped at its end.
    """

    def __init__(self, memory: SampleMemory, key: str) -> None:
        self._memory = memory
        self.key = key
        self._samples: dict[int, int] = {}
        self._is_closed = False
        self._busy = False
        self.max_samples: int | None = None
        self.parts: dict[int, int] = {}
        self.nbytes = 0
        self.grows = True
        self.is_stopped = False

    def look(self, part: int, samples: int, nbytes: int) -> None:
        """Note that so many samples of a channel have been decoded, and how many bytes are held of them now.

        Raises Left once the lease is closed, Longer for more than ``max_samples``, Full where there is no memory.
        """
        if self._is_closed and self.grows:
            raise Left
        self._samples[part] = samples
        if self.max_samples is not None and sum(self._samples.values()) > self.max_samples:
            raise Longer
        self._memory.hold(self, part, nbytes)

    def upload(self, nbytes: int) -> None:
        """Note the size of the upload, or that it is gone. Raises Full."""
        self._memory.hold(self, UPLOAD, nbytes)

    def close(self) -> None:
        """End the lease: now, or as soon as what still decodes for it has noticed."""
        self._is_closed = True
        if not self._busy:
            self._memory.drop(self)

    def __enter__(self) -> Lease:
        if self._is_closed:
            raise Left
        self._busy, self.grows = True, True
        self._samples.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy = False
        is_kept = self._memory.decoded(self)
        if kind is not None or not is_kept:
            for part in [part for part in self.parts if part != UPLOAD]:
                self._memory.hold(self, part, 0)
        if self._is_closed:
            self._memory.drop(self)
        if kind is None and not is_kept:
            raise Full  # stopped after its last look: the next one is in the middle of the transcription
