"""`fedforget-server settings`: show and change `server.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.platform.settings_commands import SettingsFile, settings_commands

if TYPE_CHECKING:
    from common.settings import Settings


def _model() -> type[Settings]:
    from server.settings import ServerSettings  # noqa: PLC0415 - for commands that need it

    return ServerSettings


app = settings_commands(SettingsFile("server", "federation", "server.toml", ("policy.window_hours", "24"), _model))
