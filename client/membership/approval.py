"""App bundles that may run at this site: the one of the installed FedForget, and those in `site.toml`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from client.settings import SiteSettings
from common.errors import ConfigError, InputError
from common.files import write_text
from common.protocol.bundle import installed_bundle, parse_digest
from common.settings import parse, read_toml

_KEY = "approved_bundles"
_ARRAY = re.compile(rf"^{_KEY}[ \t]*=[ \t]*\[", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def approved_digests(settings: SiteSettings) -> frozenset[str]:
    """SHA-256 of every bundle that may run here.

    Raises:
        InputError: one in `site.toml` is not a digest.
    """
    return frozenset({installed_bundle().digest, *map(parse_digest, settings.approved_bundles)})


def approve(path: Path, digest: str) -> bool:
    """Add a digest to the `site.toml` at `path`, keeping comments; False if it was already approved."""
    new_digest = parse_digest(digest)
    text = _read(path)
    old = _listed(path)
    if new_digest in {parse_digest(entry) for entry in old}:
        return False
    # Edited as text, so that comments and order stay. `_write` checks that nothing else has changed.
    opening = _ARRAY.search(text)
    if opening:
        new_text = f'{text[: opening.end()]}\n    "{new_digest}",{text[opening.end() :]}'
    else:
        table = _TABLE.search(text)
        at = table.start() if table else len(text)
        before = text[:at] if not text[:at] or text[:at].endswith("\n") else f"{text[:at]}\n"
        new_text = f'{before}{_KEY} = [\n    "{new_digest}",\n]\n{text[at:]}'

    _write(path, text, new_text, [new_digest, *old])

    return True


def withdraw(path: Path, digest: str) -> bool:
    """Remove a digest from the `site.toml` at `path`, keeping comments; False if it was not there.

    Raises:
        InputError: it is the installed FedForget's own, which needs no entry.
    """
    digest_to_remove = parse_digest(digest)
    text = _read(path)

    if digest_to_remove == installed_bundle().digest:
        raise InputError(
            "this is the installed FedForget's own bundle", remedy="stop the site, or install another version"
        )

    old = _listed(path)
    remaining = [entry for entry in old if parse_digest(entry) != digest_to_remove]
    if remaining == old:
        return False
    entry = re.compile(rf"""[ \t]*(["'])(sha256:)?{digest_to_remove}\1[ \t]*,?[ \t]*(#[^\n]*)?\n?""", re.IGNORECASE)
    _write(path, text, entry.sub("", text), remaining)

    return True


def _read(path: Path) -> str:
    parse(SiteSettings, read_toml(path), str(path))
    return path.read_text(encoding="utf-8")


def _listed(path: Path) -> list[str]:
    return list(read_toml(path).get(_KEY, []))


def _write(path: Path, text: str, changed: str, listed: list[str]) -> None:
    """Write the changed text if it contains exactly the wanted change."""
    try:
        fits = tomllib.loads(changed) == {**tomllib.loads(text), _KEY: listed}
    except tomllib.TOMLDecodeError:
        fits = False

    if not fits:
        raise ConfigError(
            f"{_KEY} has a format that cannot be edited automatically", where=str(path), remedy="edit it by hand"
        )

    write_text(path, changed)
