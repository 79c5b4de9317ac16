"""The sites as the server sees them: who is there, and exchanges that hand over each reply as it comes."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Collection, Container, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from common.errors import (
    CheckpointError,
    EvidenceError,
    InputError,
    OutputError,
    RefusedError,
    UnavailableError,
    WireError,
)
from common.learning.evaluation.reported import MOST_PATIENTS, Known
from common.learning.model.checkpoint import check_state
from common.learning.records import Subset
from common.protocol.deltas import Decoded
from common.protocol.instructions import Instruction
from common.protocol.wire import (
    STATUS,
    UNLEARN,
    B,
    Body,
    StatusReply,
    StatusRequest,
    arrays_of,
    error_code,
    pack,
    shown,
    size,
    unpack,
)
from server.rounds.aggregation import shares
from server.rounds.downlink import Downlink
from server.rounds.progress import Unwatched, Watcher
from server.rounds.signer import Scope, Signer

_FORGET = "forget"
"""In the registration of a site, those who wait to be forgotten."""
NAMING_TIMEOUT = 300.0
"""Seconds that a site has to tell its name; the first exchange of a simulation starts Ray as well."""

PATIENCE = 2
"""Deadlines in a row that a site may miss in one run: a silent hospital must not cost all others one in each round."""

log = logging.getLogger("fedforget.server")

T = TypeVar("T")


@dataclass
class Meter:
    """Adds up what a phase cost. Bytes are counted as the sites see them."""

    forward_units: float = 0.0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Meter:
        """From what `dataclasses.asdict` gave."""
        whole = {name: int(values.get(name, 0)) for name in ("bytes_up", "bytes_down")}
        return cls(values.get("forward_units", 0.0), values.get("seconds", 0.0), **whole)

    def add(self, other: Meter) -> None:
        """Add what another meter counted."""
        self.forward_units += other.forward_units
        self.seconds += other.seconds
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down


Accepts = Callable[[str, str, Mapping[str, Tensor], Mapping[str, Tensor]], bool]
"""Site, type of message, the weights that were sent, and those that came back."""


def fits(site: str, kind: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    """The least that must hold: the same names and shapes, all values finite; else raises a `WireError`."""
    try:
        check_state(after, before, where=site)
    except CheckpointError as error:
        raise WireError(f"weights of {kind} left out: {error}") from None

    return True


ChecksAggregate = Callable[[str, Mapping[str, Tensor], Mapping[str, Tensor]], None]
"""Type of message, the weights that a round began with, and their average; raises where it must not be gone on from."""


def _unchecked(kind: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """A simulation may study any model."""


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
class Federation:
    """Sites by name, and the meter that exchanges are charged to.

    With a `signer` every request is signed, in the `scope` as it stands; without one, in simulations, nobody has keys.
    A reply that does not verify, or has a wrong form, is reported to `on_bad_reply` instead of being handed over.
    """

    grid: Grid
    nodes: Mapping[str, int]
    timeout: float = 3600.0
    """Deadline of an exchange that sets no other, in seconds."""
    poll: float = 0.05
    wait: Callable[[float], None] = time.sleep
    meter: Meter = field(default_factory=Meter)
    signer: Signer | None = None
    scope: Scope = field(default_factory=Scope)
    on_bad_reply: OnBadReply = _only_logged
    accepts: Accepts = fits
    check_aggregate: ChecksAggregate = _unchecked
    downlink: Downlink = field(default_factory=Downlink)
    clock: Callable[[], float] = time.monotonic
    classes: int | None = None
    """Of the model, which figures must be of; None where it is not known."""
    named: bool = True
    """False while the names in `nodes` are not yet those of the sites."""
    registered: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """Patients by set, as each site said last."""
    watcher: Watcher = field(default_factory=Unwatched)
    counts: Mapping[str, int] | None = None
    """Studies that each site has registered; None in simulations, where what a site says of itself is taken."""
    largest: Mapping[str, int] | None = None
    """Largest number of studies that each site ever had in force, which bounds its patients to forget."""
    max_share: float = 1.0
    """Of one site in an average."""
    late: dict[str, int] = field(default_factory=dict)
    """How often in a row each site did not answer in time."""
    refused: set[str] = field(default_factory=set)
    """Sites that answered with an error instead of doing what they were asked."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Names in sorted order."""
        return tuple(sorted(self.nodes))

    def begin(self, step: str, round_number: int = 0) -> None:
        """What the exchanges from here on belong to, within the campaign."""
        self.scope = replace(self.scope, step=step, round=round_number)

    def read(
        self, site: str, kind: str, records: RecordDict, body: type[B], check: Callable[[B], None] | None = None
    ) -> B | None:
        """The body of a reply; None, and reported, if it does not fit or `check` raises."""

        def work() -> B:
            reply = unpack(records, body)
            if self.named and getattr(reply, "site", site) != site:
                raise WireError("the reply is in the name of another site")
            if check is not None:
                check(reply)
            return reply

        return self.attempt(site, kind, work)

    def attempt(self, site: str, kind: str, work: Callable[[], T]) -> T | None:
        """What `work` makes of a reply. Whatever the reply makes it raise is that site's bad reply, and gives None.

        Errors of this side, such as a full disk or a database that is away, are raised.
        """
        try:
            return work()
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

    def known(self, site: str) -> Known:
        """What a site's figures are compared with."""
        return Known(self.classes, self.registered.get(site, {}))

    def weights(
        self, site: str, kind: str, records: RecordDict, before: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor] | None:
        """The weights of a reply to a request with `before`; None, and reported, if they may not be aggregated.

        Each tensor is made when it is asked for.
        """

        def work() -> Mapping[str, Tensor] | None:
            arrays = arrays_of(records)
            if self.downlink.frozen & arrays.keys():
                raise WireError("weights of frozen layers")
            after = Decoded(arrays, before)
            return after if self.accepts(site, kind, before, after) else None

        return self.attempt(site, kind, work)

    def _report(self, site: str, kind: str, reason: str) -> None:
        log.warning("%s: bad reply to %s: %s", site, kind, reason)
        self.on_bad_reply(site, kind, reason)

    def status(self, deadline: float | None = None) -> dict[str, StatusReply]:
        """Ask every site for its counts; this is the registration that averaging weighs by."""
        requests = dict.fromkeys(self.sites, pack(StatusRequest()))
        replies = (
            (name, self.read(name, STATUS, r, StatusReply, _check_status))
            for name, r in self.exchange(STATUS, requests, deadline)
        )
        statuses = {name: reply for name, reply in replies if reply is not None}
        self.registered.update({name: status.registered for name, status in statuses.items()})

        return statuses

    def retained(self, statuses: Mapping[str, StatusReply]) -> dict[str, int]:
        """Studies to train on at each site that has some: what it says, and at most what it has registered."""
        found = {}

        for name, status in statuses.items():
            most = status.retain_studies if self.counts is None else self.counts.get(name, 0)
            if status.retain_studies > most:
                log.warning("%s: has %d studies by its own word, %d registered", name, status.retain_studies, most)
            found[name] = max(0, min(status.retain_studies, most))

        return {name: count for name, count in found.items() if count}

    def waiting(self, statuses: Mapping[str, StatusReply]) -> dict[str, int]:
        """Patients to forget at each site: what it says, and at most as many studies as it ever had in force.

        One that registered none counts one patient: what it says must not weigh, but its patients are forgotten.
        """
        found = {}

        for name, status in sorted(statuses.items()):
            most = status.pending if self.largest is None else max(self.largest.get(name, 0), 1)
            if status.pending > most:
                log.warning("%s: %d patients wait by its own word, %d count", name, status.pending, most)
            found[name] = min(status.pending, most)

        return found

    def shares(self, studies: Mapping[str, int]) -> dict[str, float]:
        """Share of each site in an average.

        Raises:
            UnavailableError: no site has studies, or none has registered any.
        """
        if not studies:
            raise UnavailableError("no site that answers has registered studies to train on")
        return shares(studies, self.max_share)

    def ask(
        self, kind: str, body: Body, state: Mapping[str, Tensor], sites: Collection[str]
    ) -> Iterator[tuple[str, RecordDict]]:
        """As `exchange`: `body` and the model `state` to each of `sites`, as changes to what it has."""
        yield from self.exchange(
            kind, self.downlink.requests(body, state, sites), whole=lambda: self.downlink.whole(body, state)
        )

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
        for name in sorted(requests.keys() - self.nodes.keys()):
            log.warning("%s: not there, left out of %s", name, kind)
        for name in sorted(name for name in requests if self.late.get(name, 0) >= PATIENCE):
            log.warning("%s: did not answer %d times, is asked no more in this run", name, PATIENCE)
        requests = {
            name: records
            for name, records in requests.items()
            if name in self.nodes and self.late.get(name, 0) < PATIENCE
        }
        waiting = self._send(kind, requests, limit, whole)
        self.watcher.asked(kind, self.scope.step, self.scope.round, (a.site for a in waiting.values()), limit)
        del requests  # a model
        answered = 0

        while waiting:
            # Looked at once more when time is up: what came while the last reply was worked on is not late.
            last = self.clock() - begin >= limit
            before = len(waiting)
            for identity in tuple(waiting):
                # One by one, so that memory holds one model and not all that are ready.
                answered += yield from self._take(identity, kind, waiting, limit)

            if last:
                break
            if waiting and len(waiting) == before:
                self.wait(self.poll)

        self.meter.seconds += self.clock() - begin
        for asked in waiting.values():
            log.warning("%s: no answer to %s in time", asked.site, kind)
            self.late[asked.site] = self.late.get(asked.site, 0) + 1

        if not answered:
            raise UnavailableError(f"no site answered {kind}")

    def _take(
        self, identity: str, kind: str, waiting: dict[str, _Asked], limit: float
    ) -> Generator[tuple[str, RecordDict], None, int]:
        """The reply to one message, if it is there and fits; returns how many that were. What repeats is dropped."""
        answered = 0

        for message in self.grid.pull_messages([identity]):
            asked = waiting.pop(message.metadata.reply_to_message_id, None)
            if asked is None:
                continue
            self.late.pop(asked.site, None)
            if self._fits(message, kind, asked):
                answered += 1
                self.watcher.heard(asked.site, fits=True)
                self.meter.bytes_up += size(message.content)
                yield asked.site, message.content
            elif asked.whole is not None and _lacks_base(message):
                self.downlink.forget(asked.site)
                waiting.update(self._send(kind, {asked.site: asked.whole()}, limit, None))
            else:
                self.watcher.heard(asked.site, fits=False)

        return answered

    def _send(
        self, kind: str, requests: Mapping[str, RecordDict], limit: float, whole: Callable[[], RecordDict] | None
    ) -> dict[str, _Asked]:
        """Sign and push; who is waited for, by the id of the message."""
        signed: Mapping[str, tuple[RecordDict, Instruction | None]] = {name: (r, None) for name, r in requests.items()}
        if self.signer is not None:
            # A whole second more: an instruction's times have no fraction.
            signed = self.signer.sign(requests, kind, self.scope, timedelta(seconds=math.ceil(limit) + 1))

        messages = []
        asked = []

        for name in sorted(signed):
            records, instruction = signed[name]
            messages.append(Message(records, self.nodes[name], kind, ttl=limit))
            asked.append(_Asked(name, instruction, whole))
            self.meter.bytes_down += size(records)

        # Flower gives None for a message that it could not take, and nothing at all if all together are too large.
        sent = zip(self.grid.push_messages(messages), asked, strict=False)
        waiting = {identity: one for identity, one in sent if identity}
        for name in sorted(signed.keys() - {one.site for one in waiting.values()}):
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
                self.refused.add(asked.site)
            return False

        def note() -> bool:
            self.downlink.note(asked.site, message.content)
            return True

        return bool(self.attempt(asked.site, kind, note))


def _check_status(reply: StatusReply) -> None:
    """Raise a `WireError` unless the counts go together."""
    if reply.registered.keys() != {*Subset, _FORGET} or reply.registered[_FORGET] != reply.pending:
        raise WireError(
            "the registered sets are not those of a site, or others than those who wait are to be forgotten"
        )

    if max(reply.registered.values()) > MOST_PATIENTS:
        raise WireError(f"more than {MOST_PATIENTS} patients in a set")
    if reply.retain_studies > reply.train_studies:
        raise WireError("more studies are retained than there are to train on")


def _lacks_base(message: Message) -> bool:
    return not message.has_error() and error_code(message.content) == "no-base"


def connect(grid: Grid, expected: int, timeout: float = 60.0, wait: Callable[[float], None] = time.sleep) -> Federation:
    """Wait until `expected` nodes are online and learn their sites' names from them: for simulations.

    Raises:
        UnavailableError: fewer came in time, or fewer answered.
        WireError: two nodes serve one site.
    """
    nodes = _online(grid, expected, timeout, wait)
    if len(nodes) < expected:
        raise UnavailableError(f"{len(nodes)} of {expected} sites are online")
    unnamed = Federation(grid, {f"node-{node}": node for node in sorted(nodes)}, wait=wait, named=False)
    replies = unnamed.status(NAMING_TIMEOUT)
    named = {reply.site: unnamed.nodes[node] for node, reply in replies.items()}
    if len(named) < len(replies):
        raise WireError(f"{len(replies)} nodes serve {len(named)} sites, each must serve its own")
    # A node that died within the last minute still counts as online, but answers nothing.
    if len(named) < expected:
        raise UnavailableError(f"{len(named)} of {expected} sites answered")
    return Federation(grid, named, wait=wait)


def connect_registered(
    grid: Grid,
    nodes: Mapping[str, int],
    signer: Signer,
    *,
    at_least: int = 1,
    timeout: float = 60.0,
    poll: float = 1.0,
    wait: Callable[[float], None] = time.sleep,
    seen: Callable[[Collection[str]], None] = lambda _: None,
) -> Federation:
    """The sites of the register `nodes` that are online, waiting until all are, or `timeout` seconds.

    `poll` is in seconds: each look is a call to the SuperLink for each site that is waited for. `seen` is told at each
    look who is online.

    Raises:
        UnavailableError: fewer than `at_least` came in time.
    """
    names = {node: name for name, node in nodes.items()}

    def look(online: Collection[int]) -> None:
        seen([names[node] for node in online])

    online = _online(grid, len(names), timeout, wait, known=names, look=look)
    if len(online) < at_least:
        raise UnavailableError(f"{len(online)} of {len(names)} sites are online, {at_least} needed")
    return Federation(grid, {names[node]: node for node in sorted(online)}, poll=poll, wait=wait, signer=signer)


def _online(
    grid: Grid,
    count: int,
    timeout: float,
    wait: Callable[[float], None],
    known: Container[int] | None = None,
    look: Callable[[Collection[int]], None] = lambda _: None,
) -> set[int]:
    """Nodes online (of `known` ones) as soon as they are `count`, or after `timeout` seconds."""
    begin = time.monotonic()

    while True:
        nodes = {node for node in grid.get_node_ids() if known is None or node in known}
        look(nodes)
        if len(nodes) >= count or time.monotonic() - begin > timeout:
            return nodes
        wait(0.1)
