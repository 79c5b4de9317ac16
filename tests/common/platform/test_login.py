"""Whose login a command runs under, from a made `/proc`, and from real processes of two users."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.platform.login import login

NAMES = {0: "root", 998: "fedforget", 1000: "lee", 1001: "weber", 65534: "nobody"}


@pytest.fixture(autouse=True)
def known_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(number: int) -> pwd.struct_passwd:
        return pwd.struct_passwd((NAMES[number], "", number, number, "", "", ""))

    monkeypatch.setattr("common.platform.login.pwd.getpwuid", find)


def proc(root: Path, users: Sequence[int], loginuid: int = 2**32 - 1) -> Path:
    """A process of the last user, whose ancestors are of those before it."""
    parents = ["0", *map(str, range(1, len(users))), "self"]
    for parent, process, user in zip(parents, parents[1:], users, strict=False):
        (root / process).mkdir(parents=True)
        (root / process / "status").write_text(f"Name:\tx\nPPid:\t{parent}\nUid:\t{user}\t{user}\t{user}\t{user}\n")

    (root / "self" / "loginuid").write_text(str(loginuid))

    return root


@pytest.mark.parametrize(
    ("users", "loginuid", "said"),
    [
        ([0, 1000, 1000], 2**32 - 1, "user:1000:lee"),
        ([0, 1000, 0, 998], 2**32 - 1, "user:1000:lee"),  # sudo -u fedforget
        ([0, 1000, 0, 1001], 2**32 - 1, "user:1000:lee"),  # su weber: the login is lee's
        ([0, 0, 998], 1001, "user:1001:weber"),
        ([0, 0, 0], 2**32 - 1, "shared:0:root"),
        ([0, 998], 2**32 - 1, "shared:998:fedforget"),
        ([0, 65534], 2**32 - 1, "shared:65534:nobody"),
        ([0, 10001], 2**32 - 1, "shared:10001:"),  # a container's user without a name
    ],
)
def test_a_person_is_found_behind_su_and_sudo_and_none_behind_an_account_of_the_system(
    tmp_path: Path, users: list[int], loginuid: int, said: str
) -> None:
    assert login(proc(tmp_path, users, loginuid), {}, users[-1]) == said


def test_a_variable_that_anybody_can_set_makes_nobody_a_person(tmp_path: Path) -> None:
    assert login(proc(tmp_path, [0, 0]), {"SUDO_UID": "1001"}, 0) == "shared:0:root"
    assert login(proc(tmp_path / "b", [0, 998]), {"SUDO_UID": "1001"}, 998) == "shared:998:fedforget"


def test_without_proc_sudo_says_who_called_it(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert login(nowhere, {"SUDO_UID": "1001"}, 0) == "user:1001:weber"
    assert login(nowhere, {"SUDO_UID": "1001"}, 998) == "shared:998:fedforget"
    assert login(nowhere, {}, 1000) == "user:1000:lee"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run as somebody else")
def test_a_real_process_of_a_person_is_that_persons() -> None:
    """Without PAM, as in a container; with it the kernel's login number is the same all along."""
    reads, writes = os.pipe()
    child = os.fork()

    if child == 0:
        os.setuid(1001)
        os.write(writes, login().encode())
        os._exit(0)

    os.waitpid(child, 0)
    kernel = int(Path("/proc/self/loginuid").read_text())
    assert (
        os.read(reads, 100).decode()
        == f"user:{(NAMES.get(kernel, '') and kernel) or 1001}:{NAMES.get(kernel, 'weber')}"
    )
