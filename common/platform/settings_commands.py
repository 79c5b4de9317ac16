"""`settings show|set|unset` of both sides: edit their TOML file with validation; comments are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from common.errors import InputError
from common.platform.processes.up_lock import is_up
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show, sub_app

if TYPE_CHECKING:
    from common.settings import Settings

_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """The settings file of one side.

    Attributes:
        side: `site` or `server`.
        folder: name of the folder in the examples.
        name: name of the file.
        example: a key and a value, for help.
        model: returns the settings model; imported on demand.
    """

    side: Literal["server", "site"]
    folder: str
    name: str
    example: tuple[str, str]
    model: Callable[[], type[Settings]]


def settings_commands(file: SettingsFile) -> typer.Typer:
    """The group."""
    app = sub_app(f"Show and change settings in {file.name}. docs/reference/configuration.md lists them all.")
    key, value = file.example

    def example(words: str) -> str:
        return f"Example: fedforget-{file.side} settings {words} --dir {file.folder}"

    @app.command("show", help="Show the effective settings, with all defaults.", epilog=example(f"show {key}"))
    def show_settings(
        under: Annotated[
            str, typer.Argument(metavar="[KEY]", help="A setting or a table; all settings by default.")
        ] = "",
        folder: Folder = Path("."),
        as_json: AsJson = False,
    ) -> None:
        from common.platform.settings_file import flattened  # noqa: PLC0415
        from common.settings import parse, read_toml  # noqa: PLC0415 - for the command that needs it

        with clear_errors():
            path = folder / file.name
            settings = parse(file.model(), read_toml(path), str(path))
            values = flattened(settings.model_dump(mode="json"))
            if under:
                # A dot is added to both, so that `policy` shows `policy.x` and not `policyholder`.
                values = {name: value for name, value in values.items() if f"{name}.".startswith(f"{under}.")}
            if not values:
                raise InputError(f"there is no setting {under}", where=file.name, remedy="leave it out to see all")
            _show(values, as_json=as_json)

    @app.command(
        "set",
        help="Set one or several settings; nothing changes unless all are valid. Restart `up` to apply them.",
        epilog=example(f"set {key} {value}"),
    )
    def set_settings(
        pairs: Annotated[
            list[str], typer.Argument(metavar="KEY VALUE...", help="Dotted name, and value in TOML syntax.", min=2)
        ],
        folder: Folder = Path("."),
        as_json: AsJson = False,
    ) -> None:
        from common.platform.settings_file import set_values  # noqa: PLC0415 - tomlkit, for the command that needs it

        with clear_errors():
            if len(pairs) % 2:
                raise InputError(
                    f"{pairs[-1]} has no value", remedy="give a value after each key; quote one with spaces"
                )

            changes = dict(zip(pairs[::2], pairs[1::2], strict=True))
            _show(set_values(folder / file.name, file.model(), changes), as_json=as_json)
            _say_restart(file, folder)

    @app.command(
        "unset", help="Remove settings from the file, so that their defaults apply.", epilog=example(f"unset {key}")
    )
    def unset_settings(
        keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Dotted names.", min=1)],
        folder: Folder = Path("."),
        as_json: AsJson = False,
    ) -> None:
        from common.platform.settings_file import unset_values  # noqa: PLC0415 - tomlkit, for the command that needs it

        with clear_errors():
            _show(unset_values(folder / file.name, file.model(), keys), as_json=as_json)
            _say_restart(file, folder)

    return app


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    public = {name: _without_password(value) for name, value in values.items()}
    show(public, fields_table(public), as_json=as_json)


def _without_password(value: Any) -> Any:
    return _PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value


def _say_restart(file: SettingsFile, folder: Path) -> None:
    if is_up(folder):
        typer.echo(f"`fedforget-{file.side} up` runs here: restart it to use what was changed", err=True)
