"""Check that every module of ours is the installed one: the names of our packages are general enough to collide.

Another Flower app that also ships a `client/` overwrites our files when it is installed later, and removes them when it
is uninstalled. So the RECORD of the distribution decides
(https://packaging.python.org/en/latest/specifications/recording-installed-packages/): each file of the four packages
must be there with the recorded digest, no other distribution may list files in them, and no module may be loaded from
elsewhere. An editable installation records no digests: there all four must come from one source tree of FedForget.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import sys
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from common.errors import FedForgetError

PACKAGES = ("common", "client", "server", "simulations")
DISTRIBUTION = "fedforget"
_OWN_ENVIRONMENT = "install FedForget in an environment of its own"
_REINSTALL = "reinstall it in an environment of its own: pip install --force-reinstall --no-deps fedforget"
_NAMED = re.compile(r'^name\s*=\s*"fedforget"\s*$', re.MULTILINE)


def own_version() -> str:
    """Version of the installed FedForget."""
    return version(DISTRIBUTION)


def check() -> None:
    """Raise a `FedForgetError` unless the four packages are those of the installed FedForget, file by file."""
    try:
        package = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        raise FedForgetError("FedForget is not installed here: pip install it") from None

    tree = _source_tree(package)
    base = tree or Path(str(package.locate_file(""))).resolve()
    _check_origins(base)
    if tree is None:
        record = Path(str(package.locate_file(""))) / _record_of(package)
        _check_files(base, record, base.stat().st_mtime_ns, record.stat().st_mtime_ns if record.is_file() else 0)

    _check_loaded(base)


def _source_tree(installed: Distribution) -> Path | None:
    """The source tree that an editable installation runs from."""
    direct = json.loads(installed.read_text("direct_url.json") or "{}")
    if not direct.get("dir_info", {}).get("editable"):
        return None
    here = Path(__file__).resolve().parent.parent
    recorded_tree = Path(url2pathname(urlsplit(str(direct.get("url", ""))).path)).resolve()
    project = here / "pyproject.toml"
    # A developer may run a second working tree from within it: it is as good as the recorded one.
    if here == recorded_tree or (project.is_file() and _NAMED.search(project.read_text(encoding="utf-8"))):
        return here
    return recorded_tree


def _check_origins(base: Path) -> None:
    for name in PACKAGES:
        spec = find_spec(name)
        places = [spec.origin] if spec and spec.origin else list(spec.submodule_search_locations or []) if spec else []

        for place in places:
            folder = Path(place).resolve()
            if (folder.parent if folder.suffix else folder).parent != base:
                raise FedForgetError(f"another package named {name!r} hides FedForget's: {_OWN_ENVIRONMENT}")


def _check_loaded(base: Path) -> None:
    """All processes do this at their start, so that a folder of modules is resolved once, not for each of them."""
    inside: dict[str, bool] = {}

    # A copy, as other threads may import meanwhile.
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in PACKAGES:
            continue
        file = getattr(module, "__file__", None)
        if not file:
            continue

        folder = os.path.dirname(file)
        if folder not in inside:
            inside[folder] = Path(folder).resolve().is_relative_to(base)
        is_ours = Path(file).resolve().is_relative_to(base) if os.path.islink(file) else inside[folder]
        if not is_ours:
            raise FedForgetError(f"the module {name} was not loaded from FedForget: {_OWN_ENVIRONMENT}")


@lru_cache(maxsize=1)
def _check_files(base: Path, record: Path, *_changed: int) -> None:
    """Compare the files with the RECORD; `_changed` varies with every installation, so that the cache is not stale."""
    digests = _recorded(record)
    if not digests:
        raise FedForgetError(f"the installation of FedForget has no RECORD: {_REINSTALL}")
    for name, digest in digests.items():
        try:
            content = (base / name).read_bytes()
        except OSError:
            raise FedForgetError(_blamed(f"{name} is missing", name, base, record)) from None

        if base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=") != digest:
            raise FedForgetError(_blamed(f"{name} is not FedForget's", name, base, record))

    for other in _others(base, record):
        raise FedForgetError(
            f"{other} installs files into a package of FedForget, and removes them when it is uninstalled: "
            f"uninstall it, then {_REINSTALL}"
        )


def _recorded(record: Path) -> dict[str, str]:
    """Recorded digests of our packages' files, by name."""
    try:
        rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
    except OSError:
        return {}

    ours = tuple(f"{name}/" for name in PACKAGES)

    return {
        row[0]: row[1].removeprefix("sha256=") for row in rows if len(row) >= 2 and row[0].startswith(ours) and row[1]
    }


def _record_of(installed: Distribution) -> str:
    """The RECORD's path below the folder of the installation."""
    name = installed.metadata["Name"].replace("-", "_")
    return f"{name}-{installed.version}.dist-info/RECORD"


def _others(base: Path, record: Path, name: str = "") -> list[str]:
    """Other distributions whose RECORD lists the file `name`, or any file in our packages."""
    prefixes = [name.encode()] if name else [f"{package}/".encode() for package in PACKAGES]
    distributions = []
    with os.scandir(base) as entries:
        folders = [entry for entry in entries if entry.name.endswith(".dist-info")]
    for folder in folders:
        path = Path(folder.path) / "RECORD"
        if path == record or not path.is_file():
            continue
        # As bytes: parsing the RECORDs of all distributions as CSV would slow every command.
        content = path.read_bytes()
        if any(content.startswith(part) or b"\n" + part in content for part in prefixes):
            distributions.append(folder.name.removesuffix(".dist-info").rpartition("-")[0])

    return distributions


def _blamed(problem: str, name: str, base: Path, record: Path) -> str:
    others = _others(base, record, name)
    cause = f"{others[0]} installs a file of that name" if others else "another package overwrote or removed it"
    return f"the installation of FedForget is damaged: {problem}, {cause}: {_REINSTALL}"
