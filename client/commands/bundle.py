"""`fedforget-site bundle`: approve app bundles that may run at this site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.membership.approval import approve, withdraw
from client.settings import SiteFolder
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show, sub_app
from common.protocol.bundle import installed_bundle, parse_digest

app = sub_app("Show, approve and withdraw the app bundles that may run at this site.")

Digest = Annotated[str, typer.Argument(help="SHA-256 of the bundle (64 hexadecimal digits).")]


@app.command("show", epilog="Example: fedforget-site bundle show --dir north")
def show_(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Show the bundle of the installed FedForget, which needs no approval, and the other approved bundles."""
    with clear_errors():
        others = [parse_digest(digest) for digest in SiteFolder(folder).settings().approved_bundles]
        own = installed_bundle().digest
        human = {"installed": own, **{f"approved {number}": digest for number, digest in enumerate(others, 1)}}
        show({"installed": own, "approved": others}, fields_table(human), as_json=as_json)


@app.command("approve", epilog=f"Example: fedforget-site bundle approve {'9f' * 32} --dir north")
def approve_(digest: Digest, folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Allow a bundle to run here, starting with its next message. It has all the rights of the site's client."""
    with clear_errors():
        is_new = approve(SiteFolder(folder).settings_file, digest)
        _report(digest, is_new, "approved" if is_new else "is already approved", as_json)


@app.command("withdraw", epilog=f"Example: fedforget-site bundle withdraw {'9f' * 32} --dir north")
def withdraw_(digest: Digest, folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Stop a bundle from running here, starting with its next message. A handler that is already running finishes."""
    with clear_errors():
        is_new = withdraw(SiteFolder(folder).settings_file, digest)
        _report(digest, is_new, "withdrawn" if is_new else "was not approved", as_json)


def _report(digest: str, changed: bool, text: str, as_json: bool) -> None:
    show({"bundle": parse_digest(digest), "changed": changed}, f"{parse_digest(digest)} {text}", as_json=as_json)
