"""Versions on a site's disk: bounded, deleted for good, and whole whenever a process is killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from sqlalchemy import select
from torch import Tensor

from client.cohort.holdings import HeldVersions
from client.database import HoldingRow, migrate, opened
from common.errors import CheckpointError, RefusedError, WireError
from common.learning.model.checkpoint import state_digest
from common.platform.sql import transaction


def weights(number: int) -> tuple[str, dict[str, Tensor]]:
    state = {"layer": torch.full((4, 4), float(number))}
    return state_digest(state), state


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[HeldVersions]:
    ticks = itertools.count()
    with opened(tmp_path / "site.db") as engine:
        migrate(engine)
        start = datetime(2026, 5, 1, tzinfo=UTC)
        yield HeldVersions(tmp_path / "models", engine, lambda: start + timedelta(seconds=next(ticks)))


def files(versions: HeldVersions) -> set[str]:
    return {path.name for path in versions.folder.iterdir()}


def rows(versions: HeldVersions) -> dict[str, HoldingRow]:
    with transaction(versions.engine) as session:
        return {row.digest: row for row in session.scalars(select(HoldingRow))}


def test_what_is_kept_comes_back_bit_for_bit(versions: HeldVersions) -> None:
    digest, state = weights(1)
    versions.keep(digest, state, "v0001")
    assert versions.held() == (digest,)
    assert torch.equal(versions.load(digest)["layer"], state["layer"])
    assert rows(versions)[digest].name == "v0001"


def test_the_oldest_goes_when_there_is_one_too_many(versions: HeldVersions) -> None:
    digests = []
    for number in range(5):
        digest, state = weights(number)
        versions.keep(digest, state, f"v{number}")
        digests.append(digest)

    assert versions.held() == tuple(digests[2:])
    assert files(versions) == {f"{digest}.safetensors" for digest in digests[2:]}
    assert [rows(versions)[d].purged is not None for d in digests] == [True, True, False, False, False]


def test_retiring_leaves_the_record_and_names_all_that_are_not_here(versions: HeldVersions) -> None:
    (first, state), (second, other), (never, _) = weights(1), weights(2), weights(3)
    versions.keep(first, state, "v1")
    versions.keep(second, other, "v2")
    assert versions.retire([first, never]) == {first, never}
    assert versions.retire([first, never]) == {first, never}
    assert files(versions) == {f"{second}.safetensors"}
    with pytest.raises(CheckpointError, match="does not hold"):
        versions.load(first)
    versions.acknowledged([first, second])
    assert rows(versions)[first].acknowledged is not None
    assert rows(versions)[second].acknowledged is None


def test_what_was_retired_is_never_kept_again_even_if_it_was_never_here(versions: HeldVersions) -> None:
    (first, state), (never, other) = weights(1), weights(2)
    versions.keep(first, state, "v1")
    versions.retire([first, never])
    for digest, weights_of_it in ((first, state), (never, other)):
        with pytest.raises(RefusedError, match="forgotten since"):
            versions.keep(digest, weights_of_it, "again")

    assert not files(versions)


def test_a_version_that_was_one_too_many_is_held_again_when_it_comes_again(versions: HeldVersions) -> None:
    (digest, state), *others = (weights(number) for number in range(4))
    versions.keep(digest, state, "v0")
    for other, more in others:
        versions.keep(other, more, "v")
    assert digest not in versions.held()
    versions.keep(digest, state, "v0")
    assert versions.held()[-1] == digest
    assert rows(versions)[digest].purged is None


def test_weights_that_are_not_the_digests_are_not_kept(versions: HeldVersions) -> None:
    digest, _ = weights(1)
    with pytest.raises(CheckpointError, match="differ"):
        versions.keep(digest, weights(2)[1], "v1")
    assert versions.held() == ()


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_digest_never_becomes_a_path(versions: HeldVersions, digest: str) -> None:
    for call in (versions.load, lambda d: versions.retire([d]), lambda d: versions.keep(d, weights(1)[1], "v")):
        with pytest.raises(WireError, match="digest"):
            call(digest)


def test_a_damaged_file_is_an_error_and_is_mended_when_the_version_comes_again(versions: HeldVersions) -> None:
    digest, state = weights(1)
    versions.keep(digest, state, "v1")
    path = versions.folder / f"{digest}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="differ"):
        versions.load(digest)
    path.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        versions.load(digest)
    versions.keep(digest, state, "v1")
    assert torch.equal(versions.load(digest)["layer"], state["layer"])


def test_files_and_records_that_do_not_agree_are_settled(versions: HeldVersions) -> None:
    (first, state), (second, other) = weights(1), weights(2)
    versions.keep(first, state, "v1")
    versions.keep(second, other, "v2")
    (versions.folder / f"{first}.safetensors").unlink()
    (versions.folder / f"{'0' * 64}.safetensors").write_bytes(b"never recorded")
    (versions.folder / f"{second}.part").write_bytes(b"half")
    assert versions.held() == (second,)
    assert files(versions) == {f"{second}.safetensors"}
    assert rows(versions)[first].purged is not None


CHILD = """
import itertools, sys, torch
from datetime import UTC, datetime
from pathlib import Path
from client.database import opened
from client.cohort.holdings import HeldVersions
from common.learning.model.checkpoint import state_digest

root = Path(sys.argv[1])
with opened(root / "site.db") as engine:
    versions = HeldVersions(root / "models", engine, lambda: datetime.now(UTC))
    print("ready", flush=True)
    for number in itertools.count():
        state = {"layer": torch.full((300, 300), float(number))}
        digest = state_digest(state)
        versions.keep(digest, state, "v")
        if number % 2:
            versions.retire([digest])
"""


def test_a_process_killed_at_any_moment_leaves_whole_versions_and_true_records(
    versions: HeldVersions, tmp_path: Path
) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    held = versions.held()
    assert files(versions) == {f"{digest}.safetensors" for digest in held}
    for digest in held:
        versions.load(digest)
    assert {d for d, row in rows(versions).items() if row.purged is None} == set(held)
