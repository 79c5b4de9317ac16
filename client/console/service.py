"""The process that `fedforget-site up` keeps alive where `[console]` is enabled. It cannot read any signing key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.resources import files

from argon2 import PasswordHasher

from client.console.desk import ROLES, Desk
from client.console.index import Index
from client.console.site import menu, site_pages
from client.revocations.ledger_queries import Clock, now_utc
from client.revocations.opening import open_ledger
from client.settings import SiteFolder
from common.platform.console.app import Console, Side
from common.platform.console.process import check_public_url, public_url, serve, tls_options
from common.platform.console.sign_in.accounts import open_accounts
from common.platform.console.sign_in.openid import open_id

_PACKAGE = "client.console"


@contextmanager
def open_console(folder: SiteFolder, clock: Clock = now_utc, hasher: PasswordHasher | None = None) -> Iterator[Console]:
    """The console of a site.

    Raises:
        InputError: a setting, the secret of the pseudonyms or a file of the site is wrong.
        UnavailableError: the database does not answer.
    """
    settings = folder.settings()
    config = settings.console
    where = f"{folder.settings_file} [console]"
    check_public_url(config, where)
    url = public_url(config)
    provider = open_id(config.openid, folder.root, url, frozenset(ROLES))
    own = open_accounts(folder.console, issuer_of(folder), hasher) if config.local_accounts else nullcontext()

    with open_ledger(folder, clock) as ledger, own as accounts:
        index = Index(ledger)
        index.refresh()
        desk = Desk(folder, settings, ledger, index, accounts)
        side = Side(
            title=settings.name,
            package=_PACKAGE,
            roles=ROLES,
            pages=site_pages(desk),
            menu=menu(desk),
            newest=index.newest,
            record=desk.record,
            locales=(files(_PACKAGE).joinpath("locales"),),
        )
        yield Console(side, config, url, accounts, provider, clock)


def issuer_of(folder: SiteFolder) -> str:
    """The issuer of people with an account of the console itself."""
    return f"local:{folder.settings().name}"


def run(folder: SiteFolder) -> None:
    """Serve until SIGTERM.

    Raises:
        InputError: settings, a key for TLS or the database.
        UnavailableError: the port is taken.
    """
    config = folder.settings().console
    tls = tls_options(config, folder.root, f"{folder.settings_file} [console]")

    with open_console(folder) as console:
        serve(console, tls)
