"""Exchanges with the sites: requests are signed and sent, and replies that verify are handed over as they come."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from sqlalchemy.exc import SQLAlchemyError

from common.errors import EvidenceError, InputError, OutputError, RefusedError, UnavailableError, WireError
from common.protocol.instructions import Instruction
from common.protocol.messages import UNLEARN
from common.protocol.wire import error_code, shown, size
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.holding import Holding
from server.rounds.exchanges.meter import Meter
from server.rounds.exchanges.progress import Unwatched, Watcher
from server.rounds.exchanges.signer import Scope, Signer

PATIENCE = 2
"""Deadlines in a row that a site may miss in one run: a silent hospital must not cost all others one in each round."""
FETCHED = 2**24
"""Bytes of replies that are fetched at once: each fetch is a call to the SuperLink, and each reply lies in memory."""
MOST_FETCHED = 32
"""Replies that are fetched at once, however small they are."""

log = logging.getLogger("fedforget.server")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    site: str
    instruction: Instruction | None
    whole: Callable[[], RecordDict] | None
    """Makes the request anew for a site that lacks what the first one changes."""


OnBadReply = Callable[[str, str, str], None]
"""Called with site, kind of request and what is wrong."""


def _only_logged(site: str, kind: str, reason: str) -> None:
    """Bad replies are in the log in any case."""


@dataclass
class Exchanges:
    """Sites by name, and the meter that exchanges are charged to.

    With a `signer` every request is signed, in the `scope` as it stands; without one, in simulations, nobody has keys.
    A reply that does not verify, or has a wrong form, is reported to `on_bad_reply` instead of being handed over.
    """

    grid: Grid
    nodes: Mapping[str, int]
    timeout: float = 3600.0
    """Deadline of an exchange that sets no other, in seconds."""
    poll: float = 0.05
    """Longest pause between two looks for replies, in seconds; see `_pause`."""
    wait: Callable[[float], None] = time.sleep
    meter: Meter = field(default_factory=Meter)
    signer: Signer | None = None
    scope: Scope = field(default_factory=Scope)
    on_bad_reply: OnBadReply = _only_logged
    downlink: Downlink = field(default_factory=Downlink)
    clock: Callable[[], float] = time.monotonic
    watcher: Watcher = field(default_factory=Unwatched)
    late: dict[str, int] = field(default_factory=dict)
    """How often in a row each site did not answer in time."""
    refusing_sites: set[str] = field(default_factory=set)
    """Sites that answered with an error instead of doing what they were asked."""
    holding: Holding = field(default_factory=Holding)
    _largest: dict[str, int] = field(default_factory=dict)
    """Bytes of the largest reply to each kind of request so far."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Names in sorted order."""
        return tuple(sorted(self.nodes))

    def begin(self, step: str, round_number: int = 0) -> None:
        """What the exchanges from here on belong to, within the campaign."""
        self.scope = replace(self.scope, step=step, round=round_number)

    def attempt(self, site: str, kind: str, work: Callable[[], T]) -> T | None:
        """What `work` makes of a reply. Whatever the reply makes it raise is that site's bad reply, and gives None.

        Errors of this side, such as a full disk or a database that is away, are raised.
        """
        try:
            return work()
        # Not the site's fault: a full disk here must not be counted against a hospital.
        except (OutputError, UnavailableError, RefusedError, OSError, MemoryError, SQLAlchemyError):
            raise
        except (WireError, InputError) as error:
            self._report(site, kind, shown(error))
        except Exception as error:
            if "memory" in str(error):  # torch has no type of its own for it
                raise
            # Its text may quote the reply.
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            self._report(site, kind, f"it cannot be handled: {where}")

        return None

    def _report(self, site: str, kind: str, reason: str) -> None:
        log.warning("%s: bad reply to %s: %s", site, kind, reason)
        self.on_bad_reply(site, kind, reason)

    def exchange(
        self,
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        """Send one message to each site and yield the replies as they come, each once.

        A site that answers with an error, with a reply that does not verify, or not within `deadline` seconds is
        logged and left out; nobody waits for it. One that lacks the weights that its request changes gets the request
        that `whole` makes, once.

        Raises:
            UnavailableError: no site at all answered.
        """
        begin = self.clock()
        limit = self.timeout if deadline is None else deadline
        # Left out, not an error: the quorum of the round decides whether the rest is enough.
        for name in sorted(requests.keys() - self.nodes.keys()):
            log.warning("%s: not there, left out of %s", name, kind)
        for name in sorted(name for name in requests if self.late.get(name, 0) >= PATIENCE):
            log.warning("%s: did not answer %d times, is asked no more in this run", name, PATIENCE)
        requests = {
            name: records
            for name, records in requests.items()
            if name in self.nodes and self.late.get(name, 0) < PATIENCE and not self.holding.over(name)
        }
        asked_sites = len(requests)
        waiting = self._send(kind, requests, limit, whole)
        self.watcher.asked(kind, self.scope.step, self.scope.round, (a.site for a in waiting.values()), limit)
        del requests  # a model
        answer_count = 0

        while waiting:
            # Looked at once more when time is up: what came while the last reply was worked on is not late.
            last = self.clock() - begin >= limit
            before = len(waiting)
            for identities in _batches(tuple(waiting), self._at_once(kind)):
                # Few at a time, so that memory does not hold the models of all sites that are ready.
                answer_count += yield from self._take(identities, kind, waiting, limit)

            if last:
                break
            if waiting and len(waiting) == before:
                pause = self.clock()
                # Never past the limit, which is also when the instruction ends.
                self.wait(max(0.0, min(self._pause(pause - begin), limit - (pause - begin))))
                slow = {one.site for one in waiting.values()}
                if self.holding.charge(slow, asked_sites, self.clock() - pause):
                    break

        self.meter.seconds += self.clock() - begin
        for unanswered_request in waiting.values():
            log.warning("%s: no answer to %s in time", unanswered_request.site, kind)
            self.late[unanswered_request.site] = self.late.get(unanswered_request.site, 0) + 1

        if not answer_count:
            raise UnavailableError(f"no site answered {kind}")

    def _take(
        self, identities: tuple[str, ...], kind: str, waiting: dict[str, _Asked], limit: float
    ) -> Generator[tuple[str, RecordDict], None, int]:
        """The replies to these messages that are there and fit; returns how many. What repeats is dropped."""
        answer_count = 0
        messages = deque(self.grid.pull_messages(identities))

        while messages:
            message = messages.popleft()
            request = waiting.pop(message.metadata.reply_to_message_id, None)
            # The first answer counts: a second one to the same request would be added to the sum twice.
            if request is None:
                continue
            # Only misses in a row count: a site that answers, even with an error, has its full patience again.
            self.late.pop(request.site, None)
            if self._fits(message, kind, request):
                answer_count += 1
                self.watcher.heard(request.site, fits=True)
                byte_count = size(message.content)
                self.meter.bytes_up += byte_count
                self._largest[kind] = max(byte_count, self._largest.get(kind, 0))
                # Who takes it shall be the only one that holds it.
                content = message.content
                del message
                yield request.site, content
                del content
            elif request.whole is not None and _lacks_base(message):
                # The whole model is sent once: with `whole=None`, a second `no-base` is an error like others.
                self.downlink.forget(request.site)
                waiting.update(self._send(kind, {request.site: request.whole()}, limit, None))
            else:
                self.watcher.heard(request.site, fits=False)

        return answer_count

    def _send(
        self, kind: str, requests: Mapping[str, RecordDict], limit: float, whole: Callable[[], RecordDict] | None
    ) -> dict[str, _Asked]:
        """Sign and push; who is waited for, by the id of the message."""
        # Signed right before sending: the period in which an instruction is valid begins now.
        message_of_site: Mapping[str, tuple[RecordDict, Instruction | None]] = {
            name: (r, None) for name, r in requests.items()
        }
        if self.signer is not None:
            # A whole second more: an instruction's times have no fraction.
            message_of_site = self.signer.sign(requests, kind, self.scope, timedelta(seconds=math.ceil(limit) + 1))

        messages = []
        open_requests = []

        for name in sorted(message_of_site):
            records, instruction = message_of_site[name]
            messages.append(Message(records, self.nodes[name], kind, ttl=limit))
            open_requests.append(_Asked(name, instruction, whole))
            self.meter.bytes_down += size(records)

        # Flower gives None for a message that it could not take, and nothing at all if all together are too large.
        request_by_id = zip(self.grid.push_messages(messages), open_requests, strict=False)
        waiting = {identity: one for identity, one in request_by_id if identity}
        for name in sorted(message_of_site.keys() - {one.site for one in waiting.values()}):
            log.warning("%s: %s could not be sent", name, kind)
        return waiting

    def _fits(self, message: Message, kind: str, asked: _Asked) -> bool:
        """Whether a reply may be handed over; otherwise it is logged, and reported if its signature is at fault."""
        if message.has_error():
            log.warning("%s: no answer to %s (code %s)", asked.site, kind, message.error.code)
            return False

        code = self.attempt(asked.site, kind, lambda: error_code(message.content) or "")
        if code is None:
            return False
        # The signature is checked before anything in the reply is believed.
        if self.signer is not None and asked.instruction is not None:
            try:
                self.signer.verify(message.content, asked.instruction)
            except EvidenceError as err:
                # A site that cannot read who asks it cannot bind an answer to the question; its error changes nothing.
                if not code:
                    self._report(asked.site, kind, str(err))
                    return False

        if code:
            log.warning("%s: answered %s with error %s, see its log", asked.site, kind, code)
            # Only who answers the request to unlearn with an error refuses to unlearn.
            if code != "no-base" and kind == UNLEARN:
                self.refusing_sites.add(asked.site)
            return False

        def note() -> bool:
            self.downlink.note(asked.site, message.content)
            return True

        return bool(self.attempt(asked.site, kind, note))

    def _pause(self, elapsed: float) -> float:
        """A tenth of the time since the requests were sent: a quick step is not delayed, a long one asks rarely."""
        return min(self.poll, max(self.poll, elapsed) / 10)

    def _at_once(self, kind: str) -> int:
        """How many replies are fetched together: one where nobody knows yet how large they are."""
        if kind not in self._largest:
            return 1
        return max(1, min(MOST_FETCHED, FETCHED // max(1, self._largest[kind])))


def _batches(identities: tuple[str, ...], count: int) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(identities), count):
        yield identities[start : start + count]


def _lacks_base(message: Message) -> bool:
    return not message.has_error() and error_code(message.content) == "no-base"
