"""Made-up radiographs and the smallest model that reads them, for the tests that run the real thing; PostgreSQL."""

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
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from common.learning.config import DataConfig, ModelConfig
from common.learning.records import Cohort, Study

if TYPE_CHECKING:
    from common.learning.data.tensors import StudyTensors
    from common.learning.model.checkpoint import ModelCard
    from server.settings import ServerFolder

# Before torch is imported: sums over several threads give other bits, and the tests already run side by side.
os.environ["OMP_NUM_THREADS"] = "1"

POSTGRES_SECONDS = 60.0
"""To start; a moment on a machine that does nothing else."""
CLASSES = ("clear", "opacity")
DATA = DataConfig(image_size=32, max_tokens=16)
MODEL = ModelConfig(width=4, embedding=8, text_hidden=16, text_layers=1, dropout=0.1)
WORDS = [
    "heart",
    "lungs",
    "pleural",
    "left",
    "right",
    "base",
    "apex",
    "mild",
    "small",
    "large",
    "stable",
    "patchy",
    "dense",
    "hazy",
]

LONG = ("integration", "faults")
"""Folders whose tests take minutes: begun first, so that no worker is left with them at the end."""

CohortOf = Callable[..., Cohort]
TensorsOf = Callable[[Cohort], "StudyTensors"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture
def card() -> ModelCard:
    """The shape of a model of some ten thousand weights."""
    from common.learning.data.tokenizer import load_tokenizer
    from common.learning.model.checkpoint import ModelCard

    vocabulary = load_tokenizer(DATA.tokenizer, DATA.max_tokens).vocab_size

    return ModelCard(model=MODEL, data=DATA, classes=CLASSES, vocab_size=vocabulary)


@pytest.fixture
def cohort_of(tmp_path: Path) -> CohortOf:
    """Patients named `<name>-<n>` with two classes in turn, each study with an image and a report of its own."""

    def make(patients: int, *, name: str = "p", studies: int = 2, seed: int = 0, site: str = "north") -> Cohort:
        rng = np.random.default_rng(seed)
        rows = []

        for number in range(patients):
            for study in range(studies):
                label = number % 2
                pixels = rng.normal(100 + 15 * label, 40, (32, 32)).clip(0, 255).astype(np.uint8)
                path = tmp_path / f"{name}-{number}-{study}.png"
                Image.fromarray(pixels).save(path)
                words = " ".join(rng.choice(WORDS, 6))
                text = f"{CLASSES[label]} {words}" if rng.random() < 0.8 else words
                rows.append(Study(f"{name}-{number}", f"{name}-{number}-{study}", path, text, label, site=site))

        return Cohort(tuple(rows), CLASSES)

    return make


@pytest.fixture
def tensors_of(tmp_path: Path) -> TensorsOf:
    """Studies as tensors, decoded by the real cache and tokenizer."""
    from common.learning.data.imaging.image_cache import ImageCache
    from common.learning.data.tensors import StudyTensors
    from common.learning.data.tokenizer import load_tokenizer

    cache = ImageCache(tmp_path / "cache", DATA.image_size, 2**24)
    tokenizer = load_tokenizer(DATA.tokenizer, DATA.max_tokens)

    return lambda cohort: StudyTensors(cohort.studies, cache, tokenizer)


@pytest.fixture
def coordinator(tmp_path: Path) -> ServerFolder:
    """A coordinator's folder, as `fedforget-server init` makes it."""
    from server.membership.setup import create_server
    from server.settings import ServerFolder

    create_server(tmp_path / "coordinator", ["localhost"], datetime.now(UTC), CLASSES)

    return ServerFolder(tmp_path / "coordinator")


@pytest.fixture
def enrol(tmp_path: Path, coordinator: ServerFolder) -> Callable[[Path, str], Path]:
    """Make a real hospital `name` of a simulated site's folder: keys of its own, approved and joined."""
    from client.cohort.site_files import SITE_FILE
    from client.membership.enrolment import join
    from client.membership.setup import SiteRequest, create_site
    from client.settings import SiteFolder
    from common.platform.keys.certificates import certificate_fingerprint, read_certificate
    from common.platform.sql import open_database, transaction
    from server.membership.enrolment import approve, open_authority, read_request

    ca = certificate_fingerprint(read_certificate(coordinator.ca_certificate.read_bytes(), "ca"))

    def make(simulated: Path, name: str) -> Path:
        folder = tmp_path / "hospitals" / name
        now = datetime.now(UTC)
        request = create_site(folder, SiteRequest(name, "localhost", ca))
        engine = open_database(coordinator.database_url(coordinator.settings()))

        try:
            with transaction(engine) as session:
                approval = approve(session, open_authority(coordinator), read_request(session, request), now)
        finally:
            engine.dispose()

        join(SiteFolder(folder), approval.bundle, now)
        shutil.copy(simulated / SITE_FILE, folder / SITE_FILE)

        return folder

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
