"""Command line of the process: `python -m client.intake.fhir --dir DIR`."""

from __future__ import annotations

from client.intake.fhir.service import run
from client.process import main

if __name__ == "__main__":
    main("fhir", "Take consents by FHIR.", run)
