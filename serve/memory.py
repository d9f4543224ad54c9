"""How much memory uploads and their decoded samples take, all requests together, and who is refused beyond a bound."""

from __future__ import annotations

import threading
from types import TracebackType

from asr.audio import SAMPLE_RATE
from asr.sandbox_task import Stop
from asr.sounding import SAMPLE_BYTES

SHORT_S = 60.0
SHORT_SAMPLES = round(SHORT_S * SAMPLE_RATE)
# Never refused: all that are in the house are some hundred MB, and others' long recordings are not their fault.
SMALL_BYTES = SHORT_SAMPLES * SAMPLE_BYTES
UPLOAD = -1  # the part of a lease that is no channel


class Full(Stop):
    """There is too much in memory for this recording."""


class Longer(Stop):
    """There is more of a recording than may be decoded here."""


class Left(Stop):
    """Nobody waits for a recording any more."""


class SampleMemory:
    """At most ``max_bytes`` of all leases, beside small ones; or one of any size, where there is nothing else.

    Beyond, the largest of those that are still decoded is stopped. Called from any thread.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._leases: set[Lease] = set()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all leases."""
        return self._bytes

    def lease(self) -> Lease:
        """Return a lease for one request, to be closed when it is answered."""
        lease = Lease(self)
        with self._lock:
            self._leases.add(lease)
        return lease

    def hold(self, lease: Lease, part: int, nbytes: int) -> None:
        """Note what a part of a lease takes. Raises Full where the lease is the one that is stopped."""
        with self._lock:
            if lease not in self._leases:
                return
            before = lease.parts.get(part, 0)
            lease.parts[part] = nbytes
            lease.nbytes += nbytes - before
            self._bytes += nbytes - before
            if nbytes > before:
                self._stop_one(lease)
            if lease.is_stopped and nbytes:
                raise Full

    def drop(self, lease: Lease) -> None:
        """Forget a lease."""
        with self._lock:
            if lease in self._leases:
                self._leases.remove(lease)
                self._bytes -= lease.nbytes

    def _stop_one(self, lease: Lease) -> None:
        if max(self._max_bytes, lease.nbytes) < self._bytes:
            largest = max((one for one in self._leases if one.grows), key=lambda one: one.nbytes, default=lease)
            largest.is_stopped = largest.nbytes > SMALL_BYTES


class Lease:
    """What one request holds: its upload, and the samples of each channel. ``with lease`` is the decoding of it."""

    def __init__(self, memory: SampleMemory) -> None:
        self._memory = memory
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
        self._busy, self.grows = False, False
        if kind is not None:
            for part in [part for part in self.parts if part != UPLOAD]:
                self._memory.hold(self, part, 0)
        if self._is_closed:
            self._memory.drop(self)
