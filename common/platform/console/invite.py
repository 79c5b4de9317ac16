"""`console token` of both sides: the one-time token with which the first account is made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from common.errors import ConfigError, InputError
from common.platform.console.settings import ConsoleConfig
from common.platform.terminal.console import show


def print_token(
    config: ConsoleConfig, accounts: Path, issuer: str, known: Sequence[str], chosen: Collection[str], *, as_json: bool
) -> None:
    """Make a one-time token for an account with the `chosen` roles, and print it.

    Raises:
        ConfigError: only the identity provider's people sign in.
        InputError: a role is unknown, or the console's parts are not installed.
    """
    if not config.local_accounts:
        remedy = "the identity provider gives roles: see console.openid.groups"
        raise ConfigError("local_accounts is off", where="[console]", remedy=remedy)
    if unknown := sorted(set(chosen) - {*known}):
        raise InputError(f"no such role: {unknown[0]}", where="--role", remedy=f"one of {', '.join(known)}")
    if find_spec("argon2") is None:
        raise InputError("the console's parts are not installed", remedy="pip install 'fedforget[console]'")

    from common.platform.console.process import public_url  # noqa: PLC0415 - installed with the console's parts
    from common.platform.console.sign_in.accounts import open_accounts  # noqa: PLC0415

    with open_accounts(accounts, issuer) as account_store:
        one_time = account_store.invite(chosen, datetime.now(UTC))

    address = f"{public_url(config)}/sign-in/setup"
    human = f"{one_time}\n\nOpen {address} and give it there. It counts once, for two days."
    show({"token": one_time, "address": address, "roles": sorted(chosen)}, human, as_json=as_json)
