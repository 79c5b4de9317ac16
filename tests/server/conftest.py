"""Hospitals in this process, each with a folder of its own, and a PostgreSQL server."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from client.app import app, open_site
from client.site import Site
from client.site_files import write_site
from common.model.checkpoint import ModelCard
from common.records import Cohort, Split, Subset
from server.federation import Federation, connect
from simulations.local_grid import LocalGrid

POSTGRES_SECONDS = 60.0
"""To start; a moment on a machine that does nothing else."""


@pytest.fixture
def federation_of(
    tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort]
) -> Callable[..., tuple[Federation, dict[str, Site]]]:
    """A federation of sites by name, with so many training patients; two patients in each of the other sets."""
    open_site.cache_clear()

    def make(model: ModelCard = card, /, **training: int) -> tuple[Federation, dict[str, Site]]:
        configs, sites = {}, {}
        for node, (name, patients) in enumerate(training.items(), start=1):
            cohort = cohort_of(patients + 8, name=name, studies=1, seed=node, site=name)
            rest = [subset for subset in Subset if subset is not Subset.TRAIN for _ in range(2)]
            split = Split(dict(zip(cohort.patients, [Subset.TRAIN] * patients + rest, strict=True)))
            folder = tmp_path / "sites" / name
            write_site(folder, cohort, split, model, name=name, seed=0, device="cpu", cache=tmp_path / "cache")
            configs[node] = {"site-dir": str(folder)}
            sites[name] = Site(folder)
        return connect(LocalGrid(app, configs), len(configs)), sites

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """A PostgreSQL server from the system's packages, on a free port of loopback and in a folder of its own."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # The server refuses to run as root; the package made this user for it.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user, user)
    command = [str(programs[-1] / "initdb"), "--pgdata", str(folder / "data"), "--username", "fedforget", "--no-sync"]
    command += ["--pwfile", str(folder / "password"), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
    subprocess.run(command, check=True, capture_output=True, user=user, group=user, cwd=folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    command = [str(programs[-1] / "postgres"), "-D", str(folder / "data")]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, user=user, group=user, cwd=folder)
    try:
        ready = [str(programs[-1] / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        end = time.monotonic() + POSTGRES_SECONDS
        while subprocess.run(ready, check=False).returncode:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield make_url(f"postgresql+pg8000://fedforget:{password}@127.0.0.1:{port}/postgres")
    finally:
        server.send_signal(signal.SIGQUIT)  # nothing in it is kept
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres: URL, request: pytest.FixtureRequest) -> str:
    """The URL of an empty PostgreSQL database."""
    name = f"{re.sub(r'[^a-z0-9]', '_', request.node.name.lower())[:40]}_{secrets.token_hex(4)}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"create database {name}"))
    finally:
        engine.dispose()
    return postgres.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The URL of an empty database by its name; SQLite's, or PostgreSQL's single one where a test asks for it."""
    if getattr(request, "param", "sqlite") == "postgresql":
        url = request.getfixturevalue("postgres_url")
        return lambda _: url
    return lambda name: f"sqlite:///{tmp_path / name}.db"
