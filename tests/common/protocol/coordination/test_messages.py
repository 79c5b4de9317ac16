from __future__ import annotations

from common.protocol.coordination import coordination_pb2


def test_no_message_from_a_site_has_a_field_for_free_text() -> None:
    strings = {
        f"{message.name}.{field.name}"
        for message in coordination_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if message.name.endswith("Request") and field.type in {field.TYPE_STRING, field.TYPE_BYTES}
    }
    signed = {"checkpoint", "proof", "cosigned"}
    assert strings == {
        "HeartbeatRequest.version",
        "HeartbeatRequest.held",
        "AcknowledgePurgeRequest.digests",
        *(f"ExchangeCheckpointRequest.{name}" for name in signed),
        "ExchangeAttestationsRequest.signed",
        "ExchangeTokensRequest.tokens",
        "RegisterCountsRequest.statement",
    }
