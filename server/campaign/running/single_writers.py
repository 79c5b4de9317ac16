"""What the policy asks for where one hospital alone would write the unlearned model."""

from __future__ import annotations

from common.errors import RefusedError
from server.campaign.journal import DatabaseJournal
from server.rounds.unlearning.base import Collected, Stage, single_writer
from server.settings import Terms


class SingleWriterError(RefusedError):
    """One hospital alone would write the model, and the policy asks for retraining then."""


def least_retention(collected: Collected, journal: DatabaseJournal, terms: Terms) -> int:
    """Fewest retention rounds of a candidate, as the policy for a single writer says.

    Raises:
        SingleWriterError: the policy does not let one hospital write the model.
    """
    writer = single_writer(terms.experiment.campaign.aggregation, collected.forgetting)
    if writer is None or terms.policy.single_writer == "accept":
        return 0

    if terms.policy.single_writer == "retrain":
        raise SingleWriterError(f"{writer} alone would write the model, policy.single_writer is retrain")

    # Training by the others dilutes what one hospital could have hidden in the model.
    rounds = terms.policy.single_writer_rounds
    if terms.experiment.campaign.retention_rounds < rounds and journal.get("select", Stage) is None:
        journal.note("retention", f"{writer} alone writes the unlearned model: {rounds} retention rounds at least")

    return rounds
