"""CPU seconds of commands that do no work: `python -m simulations.bench.commands` prints a table for docs/results.

Each is run in an empty folder of its side, once to compile and three times to measure; the median counts.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from client.membership.setup import SiteRequest, create_site
from server.membership.setup import create_server

RUNS = 3
HELPS = (("server", "--help"), ("site", "--help"), ("sim", "--help"), ("server", "train", "--help"))
SERVER = (
    ("site", "list"),
    ("campaign", "list"),
    ("models", "list"),
    ("log", "show"),
    ("settings", "show"),
)
SITE = (("revocations", "list"), ("consent-client", "list"), ("settings", "show"))


def cpu_seconds(argv: Sequence[str]) -> float:
    """User and system CPU seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Compiled files must be written, or each run would compile again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(argv, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure the commands and print the table."""
    programs = Path(sys.executable).parent

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ca = create_server(root / "server", ["localhost"], datetime.now(UTC), ("no", "yes"))
        create_site(root / "site", SiteRequest("north", "localhost", ca))
        commands = [*HELPS]
        for side, listings in (("server", SERVER), ("site", SITE)):
            commands += [(side, *words, "--dir", str(root / side)) for words in listings]
        lines = [
            f"Python {platform.python_version()}, {platform.machine()}.",
            "",
            "| command | CPU seconds |",
            "|---|---|",
        ]
        for side, *words in commands:
            argv = [str(programs / f"fedforget-{side}"), *words]
            cpu_seconds(argv)
            seconds = statistics.median(cpu_seconds(argv) for _ in range(RUNS))
            title = " ".join(word for word in words if not word.startswith(str(root)) and word != "--dir")
            lines.append(f"| `fedforget-{side} {title}` | {seconds:.2f} |")

    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
