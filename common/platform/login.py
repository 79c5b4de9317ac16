"""The login behind a command: a person's own, also through `su` and `sudo`, or a shared account."""

from __future__ import annotations

import getpass
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from common.platform.actor import by_user

_FIRST_PERSON = 1000
# On Linux accounts of people start at this number (UID_MIN of login.defs); `nobody` is not one.
_NOBODY = 65534
_UNSET = 2**32 - 1


def login_name() -> str:
    """The default name of the person who acts."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def login(proc: Path = Path("/proc"), environment: Mapping[str, str] = os.environ, uid: int | None = None) -> str:
    """What a name typed in this process is bound to, see `common.platform.actor`.

    The kernel's login number counts first (`/proc/self/loginuid`, set by PAM and kept through `sudo`). Without it, the
    outermost ancestor process of a person's account counts. Anybody can set a variable such as `SUDO_UID`, so it counts
    only if there is no `/proc`.
    """
    own = os.getuid() if uid is None else uid
    for number in (_kernel(proc), *_ancestors(proc)):
        if _is_person(number):
            return by_user(number, _name(number), shared=False)

    if not proc.is_dir():
        sudo = environment.get("SUDO_UID", "")
        number = int(sudo) if own == 0 and sudo.isascii() and sudo.isdecimal() else own
        if _is_person(number):
            return by_user(number, _name(number), shared=False)

    return by_user(own, _name(own), shared=True)


def _is_person(number: int) -> bool:
    """Whether an account belongs to one person; system accounts and nameless ones, as in containers, do not."""
    return number >= _FIRST_PERSON and number not in (_NOBODY, _UNSET) and bool(_name(number))


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return ""


def _kernel(proc: Path) -> int:
    try:
        return int((proc / "self" / "loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return _UNSET


def _ancestors(proc: Path) -> list[int]:
    """Real user numbers of this process and its ancestors, the outermost first."""
    numbers: list[int] = []
    process = "self"

    while process != "0":
        try:
            lines = (proc / process / "status").read_text(encoding="utf-8", errors="replace").splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            numbers.insert(0, int(fields["Uid"].split()[0]))
            process = fields["PPid"].strip()
        # A process that ended meanwhile, or `/proc` of another user: what is known so far must do.
        except (OSError, KeyError, ValueError):
            break

    return numbers
