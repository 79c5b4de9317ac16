"""Change settings in a TOML file: validate all before writing anything, keep comments and order."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, InlineTable

from common.errors import ConfigError
from common.files import write_text
from common.settings import Settings, parse, read_toml


def set_values(path: Path, model: type[Settings], values: Mapping[str, str]) -> dict[str, Any]:
    """Set dotted keys to TOML values (text needs no quotes); return their new values.

    Raises:
        ConfigError: the file, a key or a value is invalid; nothing is changed.
    """
    return _change(path, model, values, ())


def unset_values(path: Path, model: type[Settings], keys: Sequence[str]) -> dict[str, Any]:
    """Remove dotted keys from the file, so that their defaults apply; raises as `set_values`."""
    return _change(path, model, {}, keys)


def flattened(values: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys."""
    flat: dict[str, Any] = {}

    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flattened(value, f"{under}{name}.")
        else:
            flat[f"{under}{name}"] = value

    return flat


def _change(path: Path, model: type[Settings], values: Mapping[str, str], unset: Sequence[str]) -> dict[str, Any]:
    # Valid before as well: a file that was broken by hand must not be blamed on this change.
    parse(model, read_toml(path), str(path))
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    for key, text in values.items():
        _set(document, _parts(key), _value(text), str(path))
    for key in unset:
        _unset(document, _parts(key))

    _as_text(model, document, values, str(path))
    content = tomlkit.dumps(document)
    settings = parse(model, tomllib.loads(content), str(path))
    _write(path, content)

    return {key: _at(settings.model_dump(mode="json"), _parts(key)) for key in (*values, *unset)}


def _as_text(model: type[Settings], document: tomlkit.TOMLDocument, values: Mapping[str, str], where: str) -> None:
    """Keep what looks like a number or a date as text if the setting is text: `name 007`."""
    try:
        model.model_validate(tomllib.loads(tomlkit.dumps(document)))
    except ValidationError as err:
        names = {".".join(map(str, e["loc"])) for e in err.errors() if e["type"] == "string_type"}
        for key in values.keys() & names:
            _set(document, _parts(key), values[key], where)


def _parts(key: str) -> list[str]:
    parts = [part.strip() for part in key.split(".")]
    if not all(parts):
        raise ConfigError(f"{key!r} is not the name of a setting", remedy="write it as policy.window_hours")
    return parts


def _value(text: str) -> Any:
    """As TOML, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text


def _set(document: Any, parts: Sequence[str], value: Any, where: str) -> None:
    table = document
    for part in parts[:-1]:
        if part not in table:
            table[part] = tomlkit.table()
        table = table[part]
        if not isinstance(table, AbstractTable | dict):
            raise ConfigError(f"{part} is not a table", where=where, remedy="see docs/reference/configuration.md")

    item = _inline(value) if isinstance(value, dict) else tomlkit.item(value)
    try:
        table[parts[-1]] = item
    except TOMLKitError as err:
        raise ConfigError(f"{'.'.join(parts)}: {err}", where=where) from None


def _inline(value: Mapping[str, Any]) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _unset(document: Any, parts: Sequence[str]) -> None:
    table = document
    for part in parts[:-1]:
        table = table.get(part, {})
    if parts[-1] in table:
        del table[parts[-1]]


def _at(values: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all; its permissions are kept, and a link stays a link."""
    place = path.resolve()
    mode = place.stat().st_mode & 0o777
    write_text(place, text)
    place.chmod(mode)
