"""Ask a person for the passphrase of their own key, which is stored in no folder of a service."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from common.errors import InputError
from common.files import read_private


def ask_passphrase(file: Path | None, whose: str, *, new: bool = False) -> bytes:
    """The passphrase from `file`, typed invisibly on a terminal, or from the first line of standard input.

    Args:
        file: a file that only its owner can read.
        whose: the key that it opens, for the prompt.
        new: the passphrase is new, so ask twice.

    Raises:
        InputError: the file cannot be read or is readable by others, no passphrase was given, or the two differ.
    """
    if file is not None:
        # Editors end a file with a line break.
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
