"""What every dossier must be, by docs/compliance.md."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "compliance.md").read_text(encoding="utf-8")
_NAME = re.compile(r"`([\w*-]+\.(?:json|jsonl|pdf|pub|txt|pyz)|SHA256SUMS)`")
_ONLY_IF_NAMED = {"evaluator.pub"}


def named(heading: str) -> set[str]:
    """Files that a section of the page names in the first column of its table."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return set(_NAME.findall("\n".join(first)))


def everywhere() -> set[str]:
    """Files that the page names anywhere."""
    return set(_NAME.findall(PAGE)) - _ONLY_IF_NAMED


def absent(patterns: set[str], names: set[str]) -> set[str]:
    return {pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)}


def unpacked(archive: Path, folder: Path) -> set[str]:
    """Unpack, compare with SHA256SUMS, and return the names."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    names = {path.name for path in folder.iterdir()}
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in lines} == names - {"SHA256SUMS"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for digest, name in lines)

    return names


def verified(folder: Path) -> str:
    """Run the README's command outside the repository, by an interpreter that has `cryptography` and no FedForget."""
    (command,) = re.findall(r"^  python (.*)$", (folder / "README.txt").read_text(), re.MULTILINE)
    # -S leaves the editable installation out; the package that the verifier needs is found by its own folder.
    code = f"import runpy, sys; sys.path += {[_package_folder(folder)]!r}; sys.argv = {command.split()!r}; "
    code += "runpy.run_path('verify.pyz', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

    return done.stdout


def _package_folder(folder: Path) -> str:
    """A folder outside the archive with `cryptography` and what it needs, and nothing else."""
    import cryptography

    site = Path(cryptography.__file__).parents[1]
    alone = folder.parent / "packages"
    alone.mkdir(exist_ok=True)
    for entry in site.iterdir():
        if entry.name in {"cryptography", "cffi", "pycparser"} or entry.name.startswith("_cffi_backend"):
            link = alone / entry.name
            if not link.exists():
                link.symlink_to(entry)

    return str(alone)
