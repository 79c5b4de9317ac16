"""The small JSON files of an encoder's folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from common.errors import ConfigError

_MOST_BYTES = 64 * 2**20
_LICENCE = re.compile(r"^license:\s*['\"]?([\w.+-]{1,60})['\"]?\s*$", re.MULTILINE)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is no such file.

    Raises:
        ConfigError: it cannot be read, is too large, or holds no JSON object.
    """
    remedy = "take this file from where the model comes from"
    try:
        # A folder may come from anywhere: JSON of gigabytes would fill the memory.
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError("too large for settings", where=str(path), remedy=remedy)
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as err:
        raise ConfigError(f"cannot be read: {err.strerror}", where=str(path), remedy="check its permissions") from None
    except (ValueError, RecursionError):
        raise ConfigError("not JSON", where=str(path), remedy=remedy) from None

    if not isinstance(values, dict):
        raise ConfigError("not a JSON object", where=str(path), remedy=remedy)
    return values


def stated_licence(folder: Path) -> str:
    """The licence that the folder's read-me or settings state; empty if they state none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")[:20000]
    except (OSError, UnicodeDecodeError):
        text = ""

    if text.startswith("---") and (match := _LICENCE.search(text.split("\n---", 1)[0])):
        return match[1]
    config = read_json(folder / "config.json")
    cfg = config.get("pretrained_cfg")
    license_name = config.get("license") or (cfg.get("license") if isinstance(cfg, dict) else None)

    return str(license_name)[:60] if isinstance(license_name, str) else ""
