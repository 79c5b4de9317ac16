"""A coordinator process with its real database, keys and campaign code; the hospitals answer on a grid in it.

`python coordinator_process.py DIR SITES FAULT`: carries on the open campaign, until its end or until FAULT strikes. That
is `none`, `kill:STEP` (SIGKILL to itself straight after STEP was written, `kill-before:STEP` straight before), or
`kill-in:KIND` (when the sites are to work on a message of that kind).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from client.app import app
from common.bundle import installed_bundle
from server.app import carry_on
from server.campaign_store import DatabaseJournal
from server.control import RunStatus
from server.coordinator import Coordinator
from server.house import open_house
from simulations.local_grid import LocalGrid


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class LocalRuns:
    """Runs that are carried on in this process, at once."""

    def __init__(self, folder: Path, sites: Path, before_message: Callable[[str], None]) -> None:
        self.folder, self.sites, self.before_message, self.count = folder, sites, before_message, 0
        self.names = sorted(path.name for path in sites.iterdir() if path.is_dir())

    def start(self, _bundle, config, _series):
        self.count += 1
        grid = LocalGrid(app, {n: {"site-dir": str(self.sites / name)} for n, name in enumerate(self.names, start=1)})
        push = grid.push_messages

        def push_messages(messages):
            messages = list(messages)
            self.before_message(messages[0].metadata.message_type if messages else "")
            return push(messages)

        grid.push_messages = push_messages
        carry_on(grid, self.folder, config["campaign"], config["attempt"], self.count)
        return self.count, 1

    def status(self, _run):
        return RunStatus("finished", "completed", "")

    def stop(self, _run):
        return False

    def nodes(self):
        return []

    def register_node(self, _key, name):
        return 1 + self.names.index(name.rsplit("-", 1)[0])

    def unregister_node(self, _node):
        """Nobody is there to shut out."""


def main() -> None:
    folder, sites, fault = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    how, _, at = fault.partition(":")
    put = DatabaseJournal.put

    def faulty_put(journal, step, body, weights=None):
        if how == "kill-before" and step == at:
            die()
        put(journal, step, body, weights)
        if how == "kill" and step == at:
            die()

    DatabaseJournal.put = faulty_put
    house = open_house(folder)
    house.registry.recover()
    runs = LocalRuns(folder, sites, lambda kind: die() if how == "kill-in" and kind == at else None)
    coordinator = Coordinator(house, runs, installed_bundle())
    coordinator.tick()
    if fault != "none":
        sys.exit("the fault did not strike")
    row = house.store.all()[-1]
    sys.stdout.write(f"{row.state}\n")


if __name__ == "__main__":
    main()
