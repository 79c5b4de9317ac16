"""`fedforget-site up` with both further ways in, at a hospital whose coordinator does not answer."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.intake.fhir.setup import make_keys
from client.intake.grpc.authority import add_client, make_authority
from client.intake.grpc_client import ConsentClient
from client.revocations.tombstones.overview import read_revocations
from client.settings import SiteFolder
from common.errors import InputError
from common.evidence.keys import SigningKey
from common.platform.processes.service import accepts

pytestmark = pytest.mark.integration


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_up_takes_consents_lists_and_calls_and_logs_no_identifier(
    tmp_path: Path, enrol: Callable[[Path, str], Path], running_stub: Any
) -> None:
    simulated = tmp_path / "simulated"
    office = SigningKey.generate()
    simulated.mkdir()
    subsets = {f"MRN-{n}": "train" for n in (1, 2, 3)}
    (simulated / "site.json").write_text(json.dumps({"name": "north", "subsets": subsets}))
    folder = SiteFolder(enrol(simulated, "north"))
    fhir, supernode, monitor, grpc = free_ports(4)
    (folder.root / "office.pem").write_bytes(office.public.pem)

    with folder.settings_file.open("a") as file:
        file.write(f"\n[ports]\nsupernode = {supernode}\nmonitor = {monitor}\n[fhir]\nenabled = true\nport = {fhir}\n")
        file.write('[inbox]\nenabled = true\nkeys = ["office.pem"]\nkind = "withdrawal"\n')
        file.write(f"[consent_service]\nenabled = true\nport = {grpc}\n")

    make_keys(folder)
    make_authority(folder, ["localhost"], datetime.now(UTC))
    client = add_client(folder, "ehr-1", "ehr", datetime.now(UTC))
    folder.inbox.mkdir()
    (folder.inbox / "list.txt").write_bytes(b"MRN-2\n")
    (folder.inbox / "list.txt.sig").write_bytes(office.sign(b"MRN-2\n"))
    command = [str(Path(sys.executable).with_name("fedforget-site")), "up", "--dir", str(folder.root), "--json"]
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        headers = {"authorization": f"Bearer {(folder.root / 'fhir' / 'token').read_text()}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{fhir}/fhir", headers=headers, trust_env=False) as http:
            until = time.monotonic() + 120
            status = 0

            while status != 200 and time.monotonic() < until and process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    status = http.put("/Consent/c-1", json=running_stub.consent("c-1", "MRN-1", "inactive")).status_code
                time.sleep(0.2)

            assert http.put("/Consent/c-9", content=b"MRN-1", headers={"content-type": "text/plain"}).status_code == 415

        while not accepts("127.0.0.1", grpc)() and time.monotonic() < until:
            time.sleep(0.1)
        with ConsentClient.open(f"localhost:{grpc}", client) as service:
            receipt = service.revoke("MRN-3", source_id="of-MRN-3").revocation.receipt
            with pytest.raises(InputError):
                service.revoke("MRN-of-nowhere", source_id="of-MRN-of-nowhere")

        while len(read_revocations(folder.root).pending) < 3 and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)

    lines = "".join(path.read_text() for path in (tmp_path / "up.log", *folder.logs.iterdir()))
    assert read_revocations(folder.root).pending == {"MRN-1", "MRN-2", "MRN-3"}, lines
    assert code == 0, lines
    assert "listening at 127.0.0.1" in lines
    assert "list accepted" in lines
    assert receipt in lines
    assert "MRN" not in lines
