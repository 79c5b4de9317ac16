"""`fedforget-site notify`: try out the notices, or send them now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common.platform.notices.commands import notify_commands

if TYPE_CHECKING:
    from common.platform.notices.notifier import Notifier


@contextmanager
def _opened(path: Path) -> Iterator[Notifier]:
    from client.runtime.notices import open_notices  # noqa: PLC0415 - the database, for commands that send

    with open_notices(path) as notifier:
        yield notifier


app = notify_commands("fedforget-site", "hospital", _opened)
