from __future__ import annotations

import pickle

from asr.transcript import Transcript
from serve.replica.window_result import BatchInfo, WindowResult
from tests.light import imported_by


def test_an_ingress_reads_it_without_torch() -> None:
    sent = pickle.dumps(WindowResult(Transcript("word", (1,), "en"), 0.25, BatchInfo(2, 60.0, 3.0)))
    assert not imported_by("found.transcript.text", sent) & {"torch", "transformers"}
