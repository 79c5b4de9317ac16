"""Exchanges linkage tokens with the coordinator."""

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
    """Sends new tokens to the coordinator and receives those of other hospitals; a new process starts anew.

    Attributes:
        linkage: gives the current settings, None without keys.
    """

    ledger: Ledger
    linkage: Callable[[], Linkage | None]
    _after: int = field(init=False, default=0)
    _last_problem: str = field(init=False, default="")

    def exchange(self, stub: CoordinationStub) -> None:
        """Exchange tokens until neither side has more; may be interrupted and repeated.

        Raises:
            WireError: the coordinator's answer contains no valid tokens.
            InputError: cannot read a key or the identifiers.
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
                # The answer of a coordinator whose settings have linkage switched off.
                if err.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                self._say(f"revocations are not exchanged with other hospitals: {printable(err.details())}")
                return

            self._last_problem = ""
            # Before any is kept: a token of another length would never match, and stay for ever.
            if any(len(token) != _TOKEN_BYTES for token in reply.tokens):
                raise WireError("the coordinator sent invalid tokens")
            # Only now: tokens of a call that failed are sent again.
            mark_told(self.ledger, ours, reply.others)
            if matches := receive(self.ledger, linkage, [token.hex() for token in reply.tokens]):
                _log.warning("%d patients here have revoked at another hospital: use of them has stopped", matches)
            more = reply.upto > self._after
            self._after = max(reply.upto, self._after)
            if not more and len(ours) < AT_ONCE:
                return

    def _say(self, problem: str) -> None:
        if problem != self._last_problem:
            _log.warning("%s: ask the coordinator to set `linkage = true` in server.toml", problem)
        self._last_problem = problem
