"""`notify test` and `notify send` of both sides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ExitCode
from common.platform.terminal.console import AsJson, Folder, clear_errors, show, sub_app

if TYPE_CHECKING:
    from common.platform.notices.notifier import Notifier, Result

OpenNotifier = Callable[[Path], AbstractContextManager["Notifier"]]
"""Opens the notices of a folder."""


def notify_commands(program: str, folder: str, open_notifier: OpenNotifier) -> typer.Typer:
    """The commands of a side; `folder` is that of the examples."""
    app = sub_app("Send notices by mail and chat, as configured under `notify` in the settings.")

    @app.command(epilog=f"Example: {program} notify test --dir {folder}")
    def test(folder: Folder = Path(), as_json: AsJson = False) -> None:
        """Send a test message to everybody who gets notices. Exits with 5 if one of them cannot be reached."""
        from datetime import UTC, datetime  # noqa: PLC0415 - as what follows, for commands that send

        with clear_errors(), open_notifier(folder) as notifier:
            _show(notifier.test(datetime.now(UTC)), as_json=as_json)

    @app.command(epilog=f"Example: {program} notify send --dry-run --dir {folder}")
    def send(
        is_dry: Annotated[bool, typer.Option("--dry-run", help="Print the notices instead of sending them.")] = False,
        folder: Folder = Path(),
        as_json: AsJson = False,
    ) -> None:
        """Send today's notices now, unless they went out already. Exits with 5 if one of them cannot be sent."""
        from dataclasses import asdict  # noqa: PLC0415 - as what follows, for commands that send
        from datetime import UTC, datetime  # noqa: PLC0415

        with clear_errors(), open_notifier(folder) as notifier:
            if is_dry:
                messages = notifier.preview(datetime.now(UTC))
                human = "\n".join(f"--- {message.subject}\n{message.text}" for message in messages.values())
                show({kind: asdict(message) for kind, message in messages.items()}, human, as_json=as_json)
                return
            _show(notifier.send_now(datetime.now(UTC)), as_json=as_json)

    return app


def _show(results: list[Result], *, as_json: bool) -> None:
    rows = [
        {"notice": one.kind, "channel": one.channel, "outcome": one.outcome, "problem": one.problem} for one in results
    ]
    human = "\n".join(
        f"{one.kind} by {one.channel}: {one.outcome}{': ' if one.problem else ''}{one.problem}" for one in results
    )
    show({"results": rows}, human or "nothing to send: it went out today, or goes to nobody", as_json=as_json)
    if any(one.outcome in ("failed", "unknown") for one in results):
        raise typer.Exit(ExitCode.UNAVAILABLE)
