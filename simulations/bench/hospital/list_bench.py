"""How long a signed list of very many opt-outs takes, how much memory, and what it costs the loader afterwards.

    python -m simulations.bench.hospital.list_bench --write docs/results/opt-out-list.md

The list is taken by the inbox as at a hospital: from the folder, with its signature, into SQLite and the tombstones on
the disk. A twentieth of the cohort is on it. Taking it and asking afterwards are processes of their own, so that the
largest memory of each is known.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.intake.inbox import Inbox
from client.membership.setup import SiteRequest, create_site
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.evidence.keys import PublicKey, SigningKey
from common.files import write_text

PATIENTS = 1_000_000
COHORT = 20_000
_SHARE = 20
_ASKS = 10_000
_KEY = "office.pem"


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds, CPU seconds and MiB of a process; `look_micros` is microseconds of a later look at the tombstones."""

    seconds: float
    cpu: float
    memory: float
    look_micros: float = 0.0


def prepare(folder: Path, patients: int) -> SiteFolder:
    """A hospital with a cohort, and a signed list in its inbox."""
    create_site(folder, SiteRequest("north", "localhost", "0" * 64))
    subsets = {f"P{number:09d}": "train" for number in range(COHORT)}
    (folder / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}), encoding="utf-8")
    key = SigningKey.generate()
    (folder / _KEY).write_bytes(key.public.pem)
    # The last of the cohort are the first on the list; everybody else on it is unknown here.
    start = COHORT - COHORT // _SHARE
    content = "patient_id\n" + "".join(f"P{number:09d}\n" for number in range(start, start + patients))
    inbox = SiteFolder(folder).inbox
    inbox.mkdir(exist_ok=True)
    (inbox / "register.csv").write_text(content, encoding="ascii")
    (inbox / "register.csv.sig").write_bytes(key.sign(content.encode("ascii")))

    return SiteFolder(folder)


def take(folder: SiteFolder) -> Measured:
    """Take the list."""
    key = PublicKey.from_pem((folder.root / _KEY).read_bytes())
    with open_ledger(folder) as ledger:
        begin = time.perf_counter()
        cpu = time.process_time()
        Inbox(ledger, folder.inbox, (key,)).look(datetime.now(UTC))
        return Measured(time.perf_counter() - begin, time.process_time() - cpu, _memory())


def ask(folder: SiteFolder) -> Measured:
    """Ask who is stopped, for the first time and then as a loader does."""
    with open_ledger(folder, checked=True) as ledger:
        begin = time.perf_counter()
        cpu = time.process_time()
        ledger.stopped()
        first = time.perf_counter() - begin
        cpu_seconds = time.process_time() - cpu
        begin = time.perf_counter()
        for _ in range(_ASKS):
            ledger.stopped()

        return Measured(first, cpu_seconds, _memory(), 1e6 * (time.perf_counter() - begin) / _ASKS)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_own_process(step: str, folder: SiteFolder) -> Measured:
    command = [
        sys.executable,
        "-m",
        "simulations.bench.hospital.list_bench",
        "--step",
        step,
        "--folder",
        str(folder.root),
    ]
    return Measured(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def report(patients: int, take: Measured, ask: Measured, folder: SiteFolder) -> str:
    """Format the page as Markdown."""
    database = sum(path.stat().st_size for path in folder.root.glob("site.db*")) / 2**20
    stones = folder.tombstones.stat().st_size / 2**20
    machine = (
        f"{os.cpu_count()} cores with a load of {os.getloadavg()[0]:.0f}, Python {platform.python_version()}, SQLite"
    )
    list_size = COHORT // _SHARE

    return f"""# A national register of opt-outs

Command: `python -m simulations.bench.hospital.list_bench --patients {patients} --write docs/results/opt-out-list.md`.
{machine}. A signed CSV of {patients:,} patients arrives in the
inbox of a hospital with {COHORT:,}, of whom {list_size:,} are on the list. The aim for a million is 60 s and 1 GiB, and
microseconds for a look of the loader.

| what | seconds | CPU seconds | largest memory |
|---|---|---|---|
| the list is taken: checked, recorded, on the disk | {take.seconds:.0f} | {take.cpu:.0f} | {take.memory:.0f} MiB |
| the first look of another process | {ask.seconds:.1f} | {ask.cpu:.1f} | {ask.memory:.0f} MiB |

Each further look takes {ask.look_micros:.1f} microseconds. Afterwards the database has {database:.0f} MiB, and the
tombstones have {stones:.0f} MiB.
"""


def main() -> None:
    """Run, and print a page in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.hospital.list_bench")
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--write", type=Path, help="Markdown file")
    parser.add_argument("--step", choices=["take", "ask"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if arguments.step:
        step = {"take": take, "ask": ask}[arguments.step]
        sys.stdout.write(json.dumps(asdict(step(SiteFolder(arguments.folder)))))
        return

    with tempfile.TemporaryDirectory() as root:
        folder = prepare(Path(root) / "north", arguments.patients)
        take_figures = _in_own_process("take", folder)
        ask_figures = _in_own_process("ask", folder)
        text = report(arguments.patients, take_figures, ask_figures, folder)

    if arguments.write:
        write_text(arguments.write, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
