"""Asking a person for the passphrase of a key that is his own and lies in no folder of a service."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from common.errors import InputError
from common.files import read_private


def ask_passphrase(file: Path | None, whose: str, *, new: bool = False) -> bytes:
    """The passphrase: from `file`, or typed unseen on a terminal, otherwise the first line of standard input.

    Args:
        file: readable by its owner alone.
        whose: what it opens, for the prompt.
        new: it is chosen now, so it is asked for twice.

    Raises:
        InputError: the file cannot be read or is open to others, nothing was given, or the two differ.
    """
    if file is not None:
        passphrase = read_private(file).rstrip(b"\n")
    elif sys.stdin.isatty():
        passphrase = getpass.getpass(f"passphrase of {whose} (not shown): ").encode()
        if new and getpass.getpass("once more: ").encode() != passphrase:
            raise InputError("the two passphrases differ", remedy="type the same one twice")
    else:
        passphrase = sys.stdin.readline().rstrip("\n").encode()

    if not passphrase:
        raise InputError(f"no passphrase of {whose}", remedy="type one, or give a file by --passphrase-file")
    return passphrase
