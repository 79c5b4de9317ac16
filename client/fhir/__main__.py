"""Command line of the process: `python -m client.fhir --dir DIR`."""

from __future__ import annotations

from client.fhir.service import run
from client.process import main

if __name__ == "__main__":
    main("fhir", "Take consents by FHIR.", run)
