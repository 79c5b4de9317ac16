"""How fast the pages of a hospital's console are with a large ledger, and with many people at once.

`python -m simulations.bench.hospital.console_bench --write docs/results/console-bench.md`
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyotp
from argon2 import PasswordHasher
from sqlalchemy import insert

from client.console.service import issuer_of
from client.membership.setup import SiteRequest, create_site
from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.rows.ledger_tables import RevocationEventRow, RevocationRow
from client.settings import SiteFolder
from common.files import write_text
from common.platform.console.sign_in.accounts import open_accounts
from common.platform.sql import transaction

PASSWORD = "correct horse battery staple"  # noqa: S105 - of made-up people
ROLES = ("steward", "approver", "auditor", "it")
PAGES: tuple[str, ...] = ("/", "/today/part", "/register", "/queue", "/queue?kind=erasure")
PAGES += ("/queue?state=all&sort=-received&page=900",)
PAGES += ("/approvals", "/doubtful", "/opt-outs", "/find", "/data", "/code", "/health", "/log", "/people", "/settings")
PAGES += ("/cases/{receipt}", "/cases/{receipt}/part")
_STATES = (State.UNLEARNED, State.EXCLUDED, State.PENDING, State.AWAITING_APPROVAL, State.ON_HOLD, State.ESCALATED)
_KINDS = ("withdrawal", "objection", "erasure", "opt-out")
_TURNS = 5
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


def fill(ledger: Ledger, revocations: int, now: datetime) -> str:
    """Add receipts of one patient each, most of them settled; returns one of the receipts."""
    start = now - timedelta(days=400)
    rows = []
    events = []

    for number in range(1, revocations + 1):
        arrival = start + timedelta(minutes=5.5 * number)
        is_settled = number < revocations * 0.97
        state = _STATES[number % 2] if is_settled else _STATES[2 + number % 4]
        due = arrival + timedelta(days=30)
        rows.append(
            {
                "id": number, "receipt": f"{number:016x}", "pseudonym": f"{number:064x}", "source_kind": "cli",
                "source_id": f"{number:016x}", "source_version": "", "source_digest": "", "scope": "all",
                "kind": _KINDS[number % 4], "policies": [], "legal_basis": "GDPR 7(3)", "requester": "patient",
                "identity_check": "signed letter", "steward": "lee", "identity": "user:1000:lee", "received": arrival,
                "effective": arrival, "recorded": arrival,
            }
        )  # fmt: skip
        for seq, one in enumerate((State.RECEIVED, state), 1):
            reason = "made up" if one in (State.ON_HOLD, State.ESCALATED) else ""
            events.append(
                {
                    "revocation": number, "seq": seq, "at": arrival, "state": str(one), "actor": "fedforget",
                    "reason": reason, "remediation": None, "campaign": 1 if seq == 2 else None, "model": "", "due": due,
                    "identity": "", "signature": "",
                }
            )  # fmt: skip

    with transaction(ledger.engine) as session:
        for first in range(0, len(rows), 5000):
            session.execute(insert(RevocationRow), rows[first : first + 5000])
        for first in range(0, len(events), 5000):
            session.execute(insert(RevocationEventRow), events[first : first + 5000])

    return f"{revocations:016x}"


@contextmanager
def served(root: Path, revocations: int, people: int) -> Iterator[tuple[str, str, list[str], float, int]]:
    """A console process: its address, a receipt, secrets of the people, the seconds until it served, its number."""
    create_site(root, SiteRequest("north", "localhost", "0" * 64))
    write_text(root / "site.json", json.dumps({"name": "north", "subsets": {f"p-{n}": "train" for n in range(5000)}}))
    folder = SiteFolder(root)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = folder.settings_file.read_text(encoding="utf-8")
    write_text(folder.settings_file, f"{text}\n[console]\nenabled = true\nport = {port}\nidle_minutes = 600\n")
    now = datetime.now(UTC)
    with open_ledger(folder) as ledger:
        receipt = fill(ledger, revocations, now)
        write_text(folder.tombstones, "")
    with open_ledger(folder):
        pass  # writes the tombstones

    secrets = []
    # A cheap hash: making the people is not what is measured.
    with open_accounts(folder.console, issuer_of(folder), PasswordHasher(time_cost=1, memory_cost=64)) as accounts:
        for number in range(people):
            secrets.append(pyotp.random_base32())
            past = now - timedelta(hours=1)
            invitation = accounts.invitation(accounts.invite(ROLES, past), past)
            if invitation is not None:
                accounts.create(invitation, f"person {number}", PASSWORD, secrets[-1], past)

    start = time.monotonic()
    command = [sys.executable, "-m", "client.console", "--dir", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    try:
        while True:
            try:
                httpx.get(f"{address}/alive")
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                break
        yield address, receipt, secrets, time.monotonic() - start, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def signed_in(address: str, number: int, secret: str) -> httpx.Client:
    """A browser of a person. It sends secure cookies to loopback without TLS, as browsers do and httpx does not."""
    page = httpx.get(f"{address}/sign-in", timeout=60)
    token = _CSRF.search(page.text)
    form = {"csrf": token[1] if token else "", "name": f"person {number}", "password": PASSWORD, "next": "/"}
    form["code"] = pyotp.TOTP(secret).now()
    headers = {"origin": address, "cookie": _cookies(page)}
    answer = httpx.post(f"{address}/sign-in", data=form, headers=headers, timeout=60)
    answer.raise_for_status()

    return httpx.Client(base_url=address, headers={"cookie": _cookies(answer)}, timeout=60)


def _cookies(answer: httpx.Response) -> str:
    return "; ".join(value.partition(";")[0] for value in answer.headers.get_list("set-cookie"))


def processor_ms(pid: int) -> float:
    """Milliseconds of processor time of a process's threads so far (Documentation/scheduler/sched-stats.rst)."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="utf-8").split()[0]) for path in stats) / 1e6


def timed(client: httpx.Client, path: str) -> tuple[float, int]:
    """Milliseconds of a page, and its bytes."""
    start = time.perf_counter()
    answer = client.get(path)
    answer.raise_for_status()
    return (time.perf_counter() - start) * 1000, len(answer.content)


def settle(pid: int) -> None:
    """Wait until work beside the pages has ended, such as the checks that *Health* begins."""
    used = processor_ms(pid)
    while True:
        time.sleep(0.5)
        now = processor_ms(pid)
        if now - used < 5:
            return
        used = now


def measure(revocations: int, people: int) -> str:
    """The report in Markdown."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "north", revocations, people) as cookies:
        address, receipt, secrets, start, pid = cookies
        start_cpu = processor_ms(pid) / 1000
        first = signed_in(address, 0, secrets[0])
        lines = [
            "# The console with a large ledger",
            "",
            f"`python -m simulations.bench.hospital.console_bench`: {revocations:,} revocations, "
            "each under its own receipt; "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start. Times are those of a client on the "
            "same machine, without TLS; *processor ms* is what the process worked for a page, whatever else ran.",
            "",
            f"The process serves {start:.1f} s after its start ({start_cpu:.1f} s of processor time), which includes "
            "reading the whole ledger.",
            "",
            "| page | processor ms | median ms | slowest ms | KB |",
            "|---|---|---|---|---|",
        ]
        slowest = 0.0
        slowest_cpu = 0.0
        for page in PAGES:
            path = page.replace("{receipt}", receipt)
            # Once without counting: the first call fills the page's caches.
            timed(first, path)
            settle(pid)
            before = processor_ms(pid)
            times = [timed(first, path) for _ in range(_TURNS)]
            cpu = (processor_ms(pid) - before) / _TURNS
            slowest_cpu = max(slowest_cpu, cpu)
            slowest = max(slowest, statistics.median(ms for ms, _ in times))
            waited = [ms for ms, _ in times]
            lines.append(
                f"| `{page}` | {cpu:.0f} | {statistics.median(waited):.0f} | {max(waited):.0f} "
                f"| {times[0][1] / 1024:.0f} |"
            )

        clients = [first, *(signed_in(address, number, secrets[number]) for number in range(1, people))]
        some = ("/", "/queue", f"/cases/{receipt}", "/approvals")
        with ThreadPoolExecutor(people) as pool:
            began_at = time.perf_counter()
            all_times = [*pool.map(lambda client: [timed(client, path)[0] for path in some], clients)]
            wall = time.perf_counter() - began_at
        flat = sorted(ms for times in all_times for ms in times)
        lines += [
            "",
            f"{people} people at once, each loading {len(some)} pages: {len(flat) / wall:.0f} pages a second, median "
            f"{statistics.median(flat):.0f} ms, 95 % below {flat[int(len(flat) * 0.95) - 1]:.0f} ms.",
            "",
            f"Slowest page: {slowest_cpu:.0f} ms of processor time; slowest median: {slowest:.0f} ms.",
        ]

    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the report, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--revocations", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    report = measure(arguments.revocations, arguments.people)
    if arguments.write:
        write_text(arguments.write, report)
    else:
        sys.stdout.write(report)


if __name__ == "__main__":
    main()
