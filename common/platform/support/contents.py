"""The parts of a support bundle, each from an allow-list: settings, logs, metrics, machine, versions."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from common.platform.checks import Check
from common.platform.processes.flower import LOOPBACK
from common.platform.support.redaction import WITHHELD, Redaction

LINES = 300
"""Last lines of each log."""
_TAIL_BYTES = 2**18
_SECONDS = 5.0
_PACKAGES = (
    *("fedforget", "flwr", "torch", "numpy", "safetensors", "pydantic", "sqlalchemy", "alembic", "grpcio", "httpx"),
    *("cryptography", "uvicorn", "starlette", "prometheus-client", "pg8000", "opentelemetry-sdk"),
)
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
_RELEASE = re.compile(r"\d+(\.\d+)*")
_CARD = re.compile(r"[A-Za-z0-9 .()-]{1,60}")


def versions() -> dict[str, str]:
    """Versions of the software that matters; a package that is missing is left out."""
    release = _RELEASE.match(platform.release())
    version_of = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    version_of["kernel"] = release[0] if release else ""

    for name in _PACKAGES:
        try:
            version_of[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue

    return version_of


def settings(values: BaseModel) -> dict[str, Any]:
    """Settings in force: numbers, switches, choices and defaults. Other text is withheld, lists are counted."""
    return {name: _setting(field, getattr(values, name)) for name, field in type(values).model_fields.items()}


def _setting(field: FieldInfo, value: Any) -> Any:
    if isinstance(value, BaseModel):
        return settings(value)
    # A default is our own text, so it says nothing about the hospital.
    if value is None or isinstance(value, bool | int | float) or value == field.get_default(call_default_factory=True):
        return value
    if _is_choice(field.annotation):
        return value
    if isinstance(value, str):
        return WITHHELD
    return f"{len(value)} entries" if hasattr(value, "__len__") else WITHHELD


def _is_choice(annotation: Any) -> bool:
    """Whether every value of the type is one that the code lists."""
    if get_origin(annotation) is Literal:
        return True
    parts = [part for part in get_args(annotation) if part is not Ellipsis]
    return get_origin(annotation) is tuple and bool(parts) and all(_is_choice(part) for part in parts)


def checks(rows: Sequence[Check], redaction: Redaction) -> list[dict[str, str]]:
    """The doctor's result."""
    return [
        {
            "check": redaction.text(row.name),
            "result": row.result,
            "found": redaction.text(row.detail),
            "remedy": redaction.text(row.remedy),
        }
        for row in rows
    ]


def logs(folder: Path, processes: Sequence[str], redaction: Redaction) -> Iterator[tuple[str, str]]:
    """Name and last lines of the log of each process; other files in the folder are not read."""
    for process in processes:
        path = folder / f"{process}.jsonl"
        if path.is_file():
            entries = (_entry(line, redaction) for line in _tail(path))
            yield process, "".join(f"{json.dumps(entry)}\n" for entry in entries)


def _tail(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        # The first and the last piece may be half a line.
        return file.read(_TAIL_BYTES).decode("utf-8", "replace").split("\n")[-LINES - 1 : -1]


def _entry(line: str, redaction: Redaction) -> dict[str, str]:
    try:
        entry = json.loads(line)
        moment = datetime.fromisoformat(entry["time"]).isoformat(timespec="milliseconds")
        level = entry["level"] if entry["level"] in _LEVELS else WITHHELD
        safe = {"time": moment, "level": level, "message": redaction.text(str(entry["message"]))}
        event = str(entry.get("event", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {"message": WITHHELD}

    return {**safe, "event": redaction.word(event)} if event else safe


def metrics(port: int, redaction: Redaction) -> list[dict[str, Any]]:
    """FedForget's metrics of the `up` that runs; none if none answers."""
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{port}/metrics", timeout=_SECONDS, trust_env=False)
        families = list(text_string_to_metric_families(answer.text))
    except (httpx.HTTPError, ValueError):
        return []

    return [
        {
            "metric": sample.name,
            "labels": {name: redaction.text(value) for name, value in sample.labels.items()},
            "value": sample.value,
        }
        for family in families
        if family.name in redaction.vocabulary.words
        for sample in family.samples
    ]


def machine(folder: Path, parts: Sequence[Path]) -> dict[str, Any]:
    """Cores, memory, disk and cards; and the size of each of `parts`, which are named by our code."""
    disk = shutil.disk_usage(folder)

    return {
        "cores": os.cpu_count(),
        "memory_bytes": _memory(),
        "disk_bytes": {"total": disk.total, "free": disk.free},
        "folder_bytes": {part.name: _size(part) for part in parts if part.exists()},
        "cards": _cards(),
    }


def _memory() -> dict[str, int]:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return {}
    rows = re.findall(r"^(MemTotal|MemAvailable|SwapTotal|SwapFree):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(size) * 1024 for name, size in rows}


def _size(part: Path) -> int:
    if part.is_file():
        return part.stat().st_size
    return sum(path.lstat().st_size for path in part.rglob("*") if path.is_file() and not path.is_symlink())


def _cards() -> list[dict[str, Any]]:
    import torch  # noqa: PLC0415 - takes a second, for this part alone

    if not torch.cuda.is_available():
        return []
    cards = []

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        cards.append({"name": name if _CARD.fullmatch(name) else WITHHELD, "bytes": {"total": total, "free": free}})

    return cards
