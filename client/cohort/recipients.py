"""Who else received the model versions that this site received, as the coordinator says (GDPR Art. 19)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import grpc
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from client.database import HoldingRow, RecipientsRow
from common.errors import WireError
from common.platform.sql import reading, transaction
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.bounds import MAX_DIGESTS
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub
from common.protocol.recipients import Recipient, as_plain, digest_of, from_messages, from_plain

CALL_SECONDS = 10.0
ASK_EVERY = timedelta(hours=1)
"""Unless a version has arrived or gone: others may have deleted their copies meanwhile."""
_MOST_CALLS = 100
"""In a row, to a coordinator that always has more."""
_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.PERMISSION_DENIED})
"""Other calls fail alike: the announcer says so, and connects again."""
_log = logging.getLogger("fedforget.coordination")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the coordinator said last of a version's recipients, and when it said so."""

    at: datetime
    recipients: tuple[Recipient, ...]


def heard_of(session: Session) -> dict[str, Heard]:
    """What the coordinator said, by the digest of the weights."""
    rows = session.scalars(select(RecipientsRow))
    return {row.digest: Heard(row.heard, from_plain(row.body["recipients"])) for row in rows}


@dataclass(slots=True)
class RecipientLists:
    """Asks the coordinator, and keeps its answers. A refusal is logged once and never stops the other calls."""

    engine: Engine
    clock: Callable[[], datetime]
    _last_call: datetime | None = field(init=False, default=None)
    _asked_for: frozenset[tuple[str, bool]] = field(init=False, default=frozenset())
    _last_problem: str = field(init=False, default="")

    def step(self, stub: CoordinationStub) -> None:
        """Ask if it is due."""
        now = self.clock()
        with reading(self.engine) as session:
            rows = session.execute(select(HoldingRow.digest, HoldingRow.acknowledged).order_by(HoldingRow.received))
            holdings = [(digest, acknowledged_at is not None) for digest, acknowledged_at in rows]
        recently = self._last_call is not None and timedelta(0) <= now - self._last_call < ASK_EVERY
        if not holdings or (recently and frozenset(holdings) == self._asked_for):
            return

        try:
            self._ask(stub, [digest for digest, _ in holdings])
            self._last_problem = ""
        except grpc.RpcError as err:
            if not isinstance(err, grpc.Call) or err.code() in _GONE:
                raise
            old = err.code() is grpc.StatusCode.UNIMPLEMENTED
            why = "its version is too old" if old else f"it answered {err.code().name}"
            self._tell(f"the coordinator does not tell who received which model version: {why}")
        except WireError as err:
            self._tell(f"the coordinator's list of recipients is refused: {err}")
        self._last_call = now
        self._asked_for = frozenset(holdings)

    def _ask(self, stub: CoordinationStub, received: Sequence[str]) -> None:
        for _ in range(_MOST_CALLS):
            with reading(self.engine) as session:
                lists = heard_of(session)
            request = messages.ListRecipientsRequest()
            for digest in received[-MAX_DIGESTS:]:
                known_list = lists.get(digest)
                request.known.add(
                    weights=digest, digest=b"" if known_list is None else digest_of(known_list.recipients)
                )
            reply = stub.ListRecipients(request, timeout=CALL_SECONDS)
            self._keep({one.weights: from_messages(one.recipients) for one in reply.versions}, received)
            if not reply.more:
                return

    def _keep(self, lists: Mapping[str, Sequence[Recipient]], received: Sequence[str]) -> None:
        """Keep the lists of versions that are on record here; the coordinator's word for others means nothing."""
        now = self.clock()
        ours = set(received)

        with transaction(self.engine) as session:
            for digest, recipients in lists.items():
                if digest in ours:
                    row = session.get(RecipientsRow, digest) or RecipientsRow(digest=digest)
                    row.heard = now
                    row.body = {"recipients": as_plain(recipients)}
                    session.add(row)

    def _tell(self, problem: str) -> None:
        if problem != self._last_problem:
            _log.warning("%s", problem)
        self._last_problem = problem
