"""The sites as the server sees them: who is there, what each may claim, and the weights that are taken from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import RecordDict
from torch import Tensor

from common.errors import CheckpointError, UnavailableError, WireError
from common.learning.evaluation.reported import MOST_PATIENTS, Known
from common.learning.records import Subset
from common.protocol.deltas import Decoded
from common.protocol.messages import STATUS, Body, StatusReply, StatusRequest
from common.protocol.wire import B, arrays_of, pack, unpack
from server.rounds.aggregation import shares
from server.rounds.checks.update_gate import WalksOver, to_end
from server.rounds.exchanges.exchange import Exchanges

_FORGET = "forget"
"""In the registration of a site, those who wait to be forgotten."""

log = logging.getLogger("fedforget.server")

Accepts = Callable[[str, str, Mapping[str, Tensor], Mapping[str, Tensor], WalksOver], bool]
"""Site, type of message, the weights that were sent, those that came back, and the walk on which they are decoded."""


def fits(
    site: str, kind: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], walk: WalksOver = to_end
) -> bool:
    """The least that must hold: the same names and shapes, all values finite; else raises a `WireError`."""
    try:
        walk(after, before, lambda _: None)
    except CheckpointError as error:
        raise WireError(f"weights of {kind} left out: {site}: {error.problem}") from None

    return True


ChecksAggregate = Callable[[str, Mapping[str, Tensor], Mapping[str, Tensor]], None]
"""Type of message, the weights that a round began with, and their average; raises where it must not be gone on from."""


def _unchecked(kind: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """A simulation may study any model."""


@dataclass
class Federation(Exchanges):
    """The sites of a federation: exchanges with them, and what is believed of what they say."""

    accepts: Accepts = fits
    check_aggregate: ChecksAggregate = _unchecked
    classes: int | None = None
    """Of the model, which figures must be of; None where it is not known."""
    names_known: bool = True
    """False while the names in `nodes` are not yet those of the sites."""
    registered: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """Patients by set, as each site said last."""
    counts: Mapping[str, int] | None = None
    """Studies that each site has registered; None in simulations, where what a site says of itself is taken."""
    largest: Mapping[str, int] | None = None
    """Largest number of studies that each site ever had in force, which bounds its patients to forget."""
    max_share: float = 1.0
    """Of one site in an average."""

    def read(
        self, site: str, kind: str, records: RecordDict, body: type[B], check: Callable[[B], None] | None = None
    ) -> B | None:
        """The body of a reply; None, and reported, if it does not fit or `check` raises."""

        def work() -> B:
            reply = unpack(records, body)
            # Before the names are known, a node is called `node-N` and its first reply tells the name.
            if self.names_known and getattr(reply, "site", site) != site:
                raise WireError("the reply is in the name of another site")
            if check is not None:
                check(reply)
            return reply

        return self.attempt(site, kind, work)

    def known(self, site: str) -> Known:
        """What a site's figures are compared with."""
        return Known(self.classes, self.registered.get(site, {}))

    def weights(
        self,
        site: str,
        kind: str,
        records: RecordDict,
        before: Mapping[str, Tensor],
        walk: WalksOver = to_end,
        *,
        decode: bool = False,
    ) -> Mapping[str, Tensor] | None:
        """The weights of a reply to a request with `before`; None, and reported, if they may not be aggregated.

        They are decoded on `walk`, which may add them to a sum. What is returned decodes each tensor again when it is
        asked for it; with `decode` all are decoded once, and kept.
        """

        def work() -> Mapping[str, Tensor] | None:
            arrays = arrays_of(records)
            # Frozen layers never change, so that weights for them are an attempt to replace an encoder.
            if self.downlink.frozen & arrays.keys():
                raise WireError("weights of frozen layers")
            after: Mapping[str, Tensor] = Decoded(arrays, before)
            if decode:
                after = dict(after)
            return after if self.accepts(site, kind, before, after, walk) else None

        return self.attempt(site, kind, work)

    def status(self, deadline: float | None = None) -> dict[str, StatusReply]:
        """Ask every site for its counts; this is the registration that averaging weighs by."""
        requests = dict.fromkeys(self.sites, pack(StatusRequest()))
        # Lazily: each reply is checked and let go before the next one is fetched.
        replies = (
            (name, self.read(name, STATUS, r, StatusReply, _check_status))
            for name, r in self.exchange(STATUS, requests, deadline)
        )
        statuses = {name: reply for name, reply in replies if reply is not None}
        self.registered.update({name: status.registered for name, status in statuses.items()})

        return statuses

    def retained(self, statuses: Mapping[str, StatusReply]) -> dict[str, int]:
        """Studies to train on at each site that has some: what it says, and at most what it has registered."""
        replies_by_site = {}

        for name, status in statuses.items():
            most = status.retain_studies if self.counts is None else self.counts.get(name, 0)
            if status.retain_studies > most:
                log.warning("%s: has %d studies by its own word, %d registered", name, status.retain_studies, most)
            replies_by_site[name] = max(0, min(status.retain_studies, most))

        return {name: count for name, count in replies_by_site.items() if count}

    def waiting(self, statuses: Mapping[str, StatusReply]) -> dict[str, int]:
        """Patients to forget at each site: what it says, and at most as many studies as it ever had in force.

        One that registered none counts one patient: what it says must not weigh, but its patients are forgotten.
        """
        replies_by_site = {}

        for name, status in sorted(statuses.items()):
            most = status.pending if self.largest is None else max(self.largest.get(name, 0), 1)
            if status.pending > most:
                log.warning("%s: %d patients wait by its own word, %d count", name, status.pending, most)
            replies_by_site[name] = min(status.pending, most)

        return replies_by_site

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


def _check_status(reply: StatusReply) -> None:
    """Raise a `WireError` unless the counts go together."""
    if reply.registered.keys() != {*Subset, _FORGET} or reply.registered[_FORGET] != reply.pending:
        raise WireError("the hospital reported unexpected sets, or its forget set differs from its pending revocations")

    if max(reply.registered.values()) > MOST_PATIENTS:
        raise WireError(f"more than {MOST_PATIENTS} patients in a set")
    if reply.retain_studies > reply.train_studies:
        raise WireError("more studies are retained than there are to train on")
