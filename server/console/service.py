"""The process that `fedforget-server up` keeps alive where `[console]` is enabled. It cannot read any signing key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.resources import files

from argon2 import PasswordHasher

from common.platform.console.app import Console, Side
from common.platform.console.process import check_public_url, public_url, serve, tls_options
from common.platform.console.sign_in.accounts import open_accounts
from common.platform.console.sign_in.openid import open_id
from server.campaign.context import open_house, utc_now
from server.campaign.journal import Clock
from server.console.board import board_pages, menu
from server.console.desk import ROLES, Desk
from server.settings import CONSOLE_ISSUER, ServerFolder

_PACKAGE = "server.console"


@contextmanager
def open_console(
    folder: ServerFolder, clock: Clock = utc_now, hasher: PasswordHasher | None = None
) -> Iterator[Console]:
    """The console of a coordinator.

    Raises:
        InputError: a setting is wrong, or the database needs a migration.
        UnavailableError: the database does not answer.
    """
    house = open_house(folder.root, clock)
    config = house.settings.console
    check_public_url(config, f"{folder.settings_file} [console]")
    url = public_url(config)
    provider = open_id(config.openid, folder.root, url, frozenset(ROLES))
    own = open_accounts(folder.console, CONSOLE_ISSUER, hasher) if config.local_accounts else nullcontext()

    with own as accounts:
        desk = Desk(house, accounts)
        side = Side(
            title="coordinator",
            package=_PACKAGE,
            roles=ROLES,
            pages=board_pages(desk),
            menu=menu(),
            newest=desk.newest,
            record=desk.record,
            locales=(files(_PACKAGE).joinpath("locales"),),
        )
        try:
            yield Console(side, config, url, accounts, provider, clock)
        finally:
            house.engine.dispose()


def run(folder: ServerFolder) -> None:
    """Serve until SIGTERM.

    Raises:
        InputError: settings, a key for TLS or the database.
        UnavailableError: the port is taken.
    """
    config = folder.settings().console
    tls = tls_options(config, folder.root, f"{folder.settings_file} [console]")

    with open_console(folder) as console:
        serve(console, tls)
