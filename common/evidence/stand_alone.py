"""The verifier as one file for an auditor: it runs with Python and `cryptography`, and holds readable source."""

from __future__ import annotations

import io
import zipfile
from importlib.resources import files

_START = b"#!/usr/bin/env python3\n"
_MAIN = """\
import sys

from common.evidence.verify import main

sys.exit(main())
"""
# A fixed date, the first that ZIP can hold: the archive must not depend on when it was built.
_PACKED_AT = (1980, 1, 1, 0, 0, 0)


def verifier_archive() -> bytes:
    """A zip archive that Python runs (https://docs.python.org/3/library/zipapp.html), for `python verify.pyz`.

    The same release makes the same bytes on every machine, so hospital, coordinator and auditor can compare digests.
    """
    buffer = io.BytesIO(_START)
    buffer.seek(len(_START))
    # Stored, not deflated: compressed bytes depend on the version of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(_sources().items()):
            archive.writestr(zipfile.ZipInfo(name, _PACKED_AT), source)

    return buffer.getvalue()


def _sources() -> dict[str, str]:
    """Source of every module that the verifier imports, by its path in the archive."""
    common = files("common")
    evidence = common.joinpath("evidence")
    rooms = {f"common/evidence/{room}": evidence.joinpath(room) for room in ("log", "outcomes")}
    packages = {"common/evidence": evidence, **rooms}

    return {
        "__main__.py": _MAIN,
        "common/__init__.py": common.joinpath("__init__.py").read_text("utf-8"),
        **{f"common/{name}": common.joinpath(name).read_text("utf-8") for name in ("errors.py", "printable.py")},
        **{
            f"{path}/{item.name}": item.read_text("utf-8")
            for path, package in packages.items()
            for item in package.iterdir()
            if item.name.endswith(".py")
        },
    }
