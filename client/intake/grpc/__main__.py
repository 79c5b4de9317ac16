"""Command line of the process: `python -m client.intake.grpc --dir DIR`."""

from __future__ import annotations

from client.intake.grpc.process import run
from client.process import main

if __name__ == "__main__":
    main("consent_service", "Receive revocations over gRPC.", run)
