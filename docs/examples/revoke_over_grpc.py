"""Revoke a patient's consent from a program of the hospital, and follow what becomes of it.

    python revoke_over_grpc.py consent.hospital.example:19096 ehr-1 --source-id form-2026-0042 < patient-id

`ehr-1` is the folder that `fedforget-site consent-client add ehr-1 --role ehr` made. The patient's id is read from
standard input, so that it stands in no process list. Send it again, with the same --source-id, whenever no answer
came: it is recorded once. Without FedForget installed, generate a client from
`client/intake/grpc_api/consent.proto`, or fetch the service's description by gRPC reflection.
"""

import argparse
import sys
from datetime import UTC
from pathlib import Path

from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_client import ConsentClient
from common.errors import FedForgetError


def main() -> None:
    """Revoke, and say what stands in the receipt."""
    parser = argparse.ArgumentParser(description="Revoke a patient's consent.")
    parser.add_argument("address", help="host:port of the consent service")
    parser.add_argument("folder", type=Path, help="with client.key, client.crt and ca.crt")
    parser.add_argument("--source-id", required=True, help="your own name for this revocation, never the patient's")
    parser.add_argument("--document", type=Path, help="the signed form")
    arguments = parser.parse_args()
    patient = sys.stdin.readline().strip()
    form = arguments.document.read_bytes() if arguments.document else b""

    try:
        with ConsentClient.open(arguments.address, arguments.folder) as service:
            made = service.revoke(patient, source_id=arguments.source_id, document=form, requester="patient")
            allowed = service.check(patient).permission
    except FedForgetError as error:
        sys.exit(str(error))

    revocation = made.revocation
    print(f"receipt   {revocation.receipt}{'' if made.created else ' (recorded before)'}")
    print(f"state     {revocation.state}")
    print(f"due       {revocation.due.ToDatetime(tzinfo=UTC):%Y-%m-%d}")
    print(f"use       {messages.CheckPermissionReply.Permission.Name(allowed)}")
    if not made.HasField("other_hospitals"):
        print("other hospitals were not reached: no linkage is configured here")


if __name__ == "__main__":
    main()
