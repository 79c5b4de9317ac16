"""Answers a hospital that asks who else received the model versions that it received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.recipients import MAX_RECIPIENTS, Recipient, digest_of, to_message

_AT_ONCE = 2_000
"""Recipients in one answer, unless a single version has more: some 200 kB."""


def lists_for(
    request: messages.ListRecipientsRequest, recipients: Mapping[str, Sequence[Recipient]]
) -> messages.ListRecipientsReply:
    """The lists that differ from those that the hospital has, as many as one answer holds."""
    digests_there = {one.weights: one.digest for one in request.known}
    reply = messages.ListRecipientsReply()
    count = 0

    for weights, all_recipients in recipients.items():
        first_recipients = all_recipients[:MAX_RECIPIENTS]
        if digests_there.get(weights) == digest_of(first_recipients):
            continue
        if count and count + len(first_recipients) > _AT_ONCE:
            reply.more = True
            break
        reply.versions.add(weights=weights, recipients=map(to_message, first_recipients))
        count += len(first_recipients)

    return reply
