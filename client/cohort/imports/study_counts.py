"""The hospital's count of studies to train on: signed after imports and changes, then registered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from client.cohort.site_files import SITE_FILE, read_site
from client.settings import SiteFolder
from common.errors import EvidenceError
from common.evidence.keys import SigningKey
from common.files import write_bytes
from common.learning.records import Subset
from common.platform.keys.private_keys import load_signing_key
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub
from common.protocol.study_counts import StudyCounts, read_counts, sign_counts

COUNTS_FILE = "study-counts.json"
CALL_SECONDS = 10.0


def signed_counts(folder: SiteFolder, now: Callable[[], float] = time.time) -> bytes | None:
    """The statement about the imported data, created again if their number or the key has changed.

    None before the first import.

    Raises:
        InputError: cannot read the key or the data.
        OutputError: the folder cannot be written.
    """
    if not (folder.root / SITE_FILE).exists():
        return None
    site = read_site(folder.root)
    count = sum(site.subsets.get(study.patient) is Subset.TRAIN for study in site.studies)
    key = load_signing_key(folder.signing_key, folder.passphrase)
    path = folder.root / COUNTS_FILE
    before = path.read_bytes() if path.exists() else b""
    earlier_counts = _known(before, key)
    name = folder.settings().name
    if earlier_counts is not None and (earlier_counts.site, earlier_counts.train_studies) == (name, count):
        return before
    # If the file was lost, the current time continues the sequence.
    sequence = max(earlier_counts.sequence + 1 if earlier_counts else 1, int(now()))
    statement = sign_counts(StudyCounts(name, sequence, count), key)
    write_bytes(path, statement)

    return statement


def _known(data: bytes, key: SigningKey) -> StudyCounts | None:
    try:
        return read_counts(data, key.public) if data else None
    except EvidenceError:
        return None


@dataclass(slots=True)
class Registration:
    """Registers the count with the coordinator; reads the data again only after an import."""

    folder: SiteFolder
    _stamps: tuple[int, int] | None = field(init=False, default=None)
    _statement: bytes | None = field(init=False, default=None)

    def register(self, stub: CoordinationStub) -> messages.RegisterCountsReply | None:
        """Send the statement; None if there is nothing to send or the coordinator has an earlier version.

        Raises:
            grpc.RpcError: the coordinator does not answer.
            InputError, OutputError: see `signed_counts`.
        """
        path = self.folder.root / SITE_FILE
        if not path.exists():
            return None
        key = self.folder.signing_key
        # The key counts as well: after a rotation the statement is signed again.
        stamps = path.stat().st_mtime_ns, key.stat().st_mtime_ns if key.exists() else 0
        if stamps != self._stamps:
            self._statement = signed_counts(self.folder)
            self._stamps = stamps

        if self._statement is None:
            return None
        try:
            return stub.RegisterCounts(messages.RegisterCountsRequest(statement=self._statement), timeout=CALL_SECONDS)
        except grpc.RpcError as err:
            if isinstance(err, grpc.Call) and err.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise
