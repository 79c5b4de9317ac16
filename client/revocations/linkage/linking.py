"""Exchanges tokens of linkage with the coordinator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from client.revocations.ledger import Ledger
from client.revocations.linkage.tokens import Linkage, make_tokens, mark_told, receive, untold
from common.errors import WireError
from common.printable import printable
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub

AT_ONCE = 1000
"""Tokens in one message."""
_CALL_SECONDS = 10.0
_TOKEN_BYTES = 32

_log = logging.getLogger("fedforget.linkage")


@dataclass(slots=True)
class Linking:
    """Tells the coordinator what is new here and takes what is new elsewhere, from the start in every process.

    Attributes:
        linkage: as `site.toml` has it now, None where it has no keys.
    """

    ledger: Ledger
    linkage: Callable[[], Linkage | None]
    _after: int = field(init=False, default=0)
    _said: str = field(init=False, default="")

    def exchange(self, stub: CoordinationStub) -> None:
        """Until neither side has more; may be cut short anywhere and repeated.

        Raises:
            WireError: the coordinator answers with something else than tokens.
            InputError: a key or the identifiers cannot be read.
        """
        if (linkage := self.linkage()) is None:
            return
        make_tokens(self.ledger, linkage)
        while True:
            ours = untold(self.ledger, AT_ONCE)
            request = messages.ExchangeTokensRequest(tokens=map(bytes.fromhex, ours), after=self._after)

            try:
                reply = stub.ExchangeTokens(request, timeout=_CALL_SECONDS)
            except grpc.RpcError as err:
                if err.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                self._say(f"no hospital is told of revocations here, and none is heard: {printable(err.details())}")
                return

            self._said = ""
            if any(len(token) != _TOKEN_BYTES for token in reply.tokens):
                raise WireError("the coordinator hands on something else than tokens")
            mark_told(self.ledger, ours, reply.others)
            if found := receive(self.ledger, linkage, [token.hex() for token in reply.tokens]):
                _log.warning("%d patients here have revoked at another hospital: they are stopped", found)
            more = reply.upto > self._after
            self._after = max(reply.upto, self._after)
            if not more and len(ours) < AT_ONCE:
                return

    def _say(self, problem: str) -> None:
        if problem != self._said:
            _log.warning("%s: ask the coordinator to set `linkage = true` in server.toml", problem)
        self._said = problem
