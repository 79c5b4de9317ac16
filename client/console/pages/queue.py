"""The queue: all receipts, filtered, sorted, searched by receipt; and the opt-outs, which can be taken back."""

from __future__ import annotations

from starlette.responses import Response

from client.console.desk import OFFICE, READERS, STEWARD, Desk
from client.console.index import COLUMNS, Wanted
from client.console.words import KINDS, SOURCES, STATES
from client.revocations.revocation import OPEN, State
from client.revocations.workflow import decisions
from common.errors import InputError, RefusedError
from common.platform.console.page import Page, Visit
from common.platform.console.tables import view_of

_FILTERS = ("state", "kind", "source", "text")
_SETTLED = frozenset(State) - OPEN
_MOST_AT_ONCE = 50
_CHANGED = "%(done)s receipts changed, %(refused)s not: their state does not allow it."


def pages(desk: Desk) -> list[Page]:
    """The two lists, and what can be done with many receipts at once."""

    def queue(visit: Visit) -> Response:
        return _list(desk, visit, "queue.html.j2", visit.query("kind"))

    def opt_outs(visit: Visit) -> Response:
        return _list(desk, visit, "opt_outs.html.j2", "opt-out")

    def many(visit: Visit) -> Response:
        receipts = list(dict.fromkeys(visit.fields("receipt")))[:_MOST_AT_ONCE]
        reason = desk.check_text(visit.field("reason"))
        if not receipts:
            raise InputError("Choose at least one receipt.")
        if not reason:
            raise InputError("Give a reason.")
        step = {"hold": decisions.hold, "release": decisions.release}.get(visit.field("step"))
        if step is None:
            raise InputError("Choose what to do.")
        change_count = 0
        refusal_count = 0

        for receipt in receipts:
            try:
                # A transaction each: one receipt whose state does not allow the step must not undo the others.
                step(desk.ledger, receipt, visit.person.actor, reason)
                change_count += 1
            except (InputError, RefusedError):
                refusal_count += 1

        notice = visit.text(_CHANGED, done=change_count, refused=refusal_count)
        return visit.redirect("/queue", notice, "problem" if refusal_count else "done")

    return [
        Page("/queue", queue, roles=READERS),
        Page("/queue", many, roles=frozenset({STEWARD}), method="POST"),
        Page("/opt-outs", opt_outs, roles=READERS),
    ]


def _list(desk: Desk, visit: Visit, template: str, kind: str) -> Response:
    view = view_of(visit, COLUMNS, "due", _FILTERS)
    state = visit.query("state", "open" if template == "queue.html.j2" else "all")
    chosen_states = {"open": OPEN, "all": frozenset[State](), "settled": _SETTLED}.get(state)
    if chosen_states is None:
        chosen_states = frozenset({State(state)}) if state in set(State) else OPEN
    selection = Wanted(
        states=chosen_states,
        kind=kind if kind in KINDS else "",
        source=visit.query("source") if visit.query("source") in SOURCES else "",
        text=visit.query("text", most=64).strip(),
    )
    rows, total = desk.index.listed(
        selection, view.sort, is_descending=view.is_descending, start=view.start, most=view.size
    )
    view = view.of(total)
    # A page beyond the end, as after a narrower filter: the last one is shown.
    if not rows and total:
        rows, total = desk.index.listed(
            selection, view.sort, is_descending=view.is_descending, start=view.start, most=view.size
        )

    return visit.render(
        template,
        rows=rows,
        view=view,
        wanted=selection,
        state=state,
        states=STATES,
        kinds=KINDS,
        sources=SOURCES,
        may_decide=visit.may({STEWARD}),
        may_see=visit.may(OFFICE),
    )
