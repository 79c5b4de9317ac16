"""The process that sends the site's notices: `python -m client.runtime.notices --dir DIR`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.account.notices import site_notice
from client.membership.proxy import proxy_of
from client.process import main
from client.revocations.ledger_queries import Clock, now_utc
from client.revocations.opening import open_ledger
from client.settings import SiteFolder, SiteSettings
from common.platform.notices.channels import Channels
from common.platform.notices.notifier import Notifier
from common.platform.notices.process import watch


def site_channels(folder: SiteFolder, settings: SiteSettings) -> Channels:
    """Where the site's notices go; raises a `ConfigError` if its proxy is none."""
    return Channels(settings.notify, folder.root, str(folder.settings_file), proxy_of(settings))


@contextmanager
def open_notices(path: Path, clock: Clock = now_utc) -> Iterator[Notifier]:
    """The notices of a site.

    Raises:
        InputError: a setting, the secret of the pseudonyms or a file of the site is wrong.
        UnavailableError: the database does not answer.
    """
    folder = SiteFolder(path)
    settings = folder.settings()
    channels = site_channels(folder, settings)

    with open_ledger(folder, clock) as ledger:
        yield Notifier(channels, folder.root, lambda kind, now: site_notice(ledger, settings, kind, now))


def run(folder: SiteFolder) -> None:
    """Send until SIGTERM.

    Raises:
        InputError: settings, or a file of the site.
    """
    with open_notices(folder.root) as notifier:
        watch(notifier)


if __name__ == "__main__":
    main("runtime.notices", "Send notices of what is due.", run)
