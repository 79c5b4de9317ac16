"""`fedforget-site settings`: show and change `site.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.platform.settings_commands import SettingsFile, settings_commands

if TYPE_CHECKING:
    from common.settings import Settings


def _model() -> type[Settings]:
    from client.settings import SiteSettings  # noqa: PLC0415 - for commands that need it

    return SiteSettings


app = settings_commands(SettingsFile("site", "hospital", "site.toml", ("heartbeat_seconds", "30"), _model))
