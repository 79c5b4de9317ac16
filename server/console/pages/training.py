"""Training: the rounds of the newest one as they end, their curves, and earlier trainings."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from starlette.responses import Response

from common.errors import InputError
from common.platform.console.page import Page, Visit
from common.platform.console.tables import View, view_of
from common.platform.sql import reading
from server.campaign.asked import plan_training, waiting_sites
from server.campaign.curve import STEP, Curve, read_curve
from server.campaign.description import doing
from server.console.desk import EVERYBODY, OPERATORS, Desk
from server.console.drawing import Chart, chart
from server.console.words import CAMPAIGN_KINDS, CAMPAIGN_STATES
from server.database import CampaignRow, PhaseRow
from server.rounds.exchanges.progress import read_progress
from server.rounds.states import CampaignState
from server.settings import Terms

_TRAINED = (STEP, f"state:{CampaignState.RETRAINING}")
"""Steps that show that a campaign trained, also one that began as unlearning."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training, as its page shows it."""

    row: CampaignRow
    curve: Curve
    most_rounds: int
    patience: int
    is_open: bool
    now: str

    @property
    def losses(self) -> Chart | None:
        """Loss of training and validation by round."""
        points = self.curve.rounds
        curves = {
            "training": [point.train_loss for point in points],
            "validation": [point.validation_loss for point in points],
        }
        return chart([point.round for point in points], curves)

    @property
    def aucs(self) -> Chart | None:
        """AUC of validation patients by round."""
        points = self.curve.rounds
        return chart([point.round for point in points], {"validation": [point.validation_auc for point in points]})


def pages(desk: Desk) -> list[Page]:
    """The newest training, each earlier one, and the part of a page that follows the rounds."""
    house = desk.house

    def of_all(visit: Visit) -> tuple[list[CampaignRow], View]:
        with reading(house.engine) as session:
            campaigns_with_training = select(PhaseRow.campaign).where(PhaseRow.step.in_(_TRAINED))
            is_training = CampaignRow.kind.in_(("training", "retraining")) | CampaignRow.number.in_(
                campaigns_with_training
            )
            rows = [*session.scalars(select(CampaignRow).where(is_training).order_by(CampaignRow.number.desc()))]
            session.expunge_all()
        view = view_of(visit, ("number",), "-number").of(len(rows))
        rows_in_order = rows if view.is_descending else rows[::-1]

        return rows_in_order, view

    def shown(visit: Visit, row: CampaignRow) -> Training:
        with reading(house.engine) as session:
            query = select(PhaseRow.body).where(PhaseRow.campaign == row.number, PhaseRow.step == STEP)
            body = session.scalars(query).first()
        train = Terms.model_validate(row.settings).experiment.train
        is_open = not CampaignState(row.state).ended
        progress = read_progress(house.store.work, row.number, row.attempt) if is_open else None

        return Training(
            row,
            read_curve(house.store.folder(row.number)) if body is None else Curve.model_validate(body),
            train.rounds,
            train.patience,
            is_open,
            doing(row, progress, visit.now) if is_open else row.reason,
        )

    def everything(visit: Visit) -> Response:
        rows, view = of_all(visit)
        newest = max(rows, key=lambda row: row.number, default=None)
        return visit.render(
            "training.html.j2",
            training=None if newest is None else shown(visit, newest),
            rows=rows[view.start : view.start + view.size],
            view=view,
            kinds=CAMPAIGN_KINDS,
            states=CAMPAIGN_STATES,
            waiting=waiting_sites(house),
            may_train=visit.may(OPERATORS) and house.store.open() is None,
        )

    def one(visit: Visit, template: str = "training_one.html.j2") -> Response:
        text = visit.path_value("number")
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
        row = house.store.get(number)
        return visit.render(template, training=shown(visit, row), kinds=CAMPAIGN_KINDS, states=CAMPAIGN_STATES)

    def train(visit: Visit) -> Response:
        if house.store.open() is not None:
            raise InputError("A campaign is open: wait for its end, or cancel it.")
        desk.did(visit, "training-planned", hospitals=" ".join(waiting_sites(house)) or "none waits")
        number = plan_training(desk.with_present_settings(), "asked for at the console")
        return visit.redirect(f"/training/{number}", visit.text("The training is planned."))

    return [
        Page("/training", everything, roles=EVERYBODY),
        Page("/training", train, roles=OPERATORS, method="POST", is_fresh=True),
        Page("/training/{number}", one, roles=EVERYBODY),
        Page("/training/{number}/part", lambda visit: one(visit, "training_part.html.j2"), roles=EVERYBODY),
    ]
