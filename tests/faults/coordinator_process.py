"""A coordinator process with its real database, keys and campaign code; the hospitals answer on a grid in it.

`python coordinator_process.py DIR SITES FAULT` carries on the open campaign, until its end or until the fault strikes:
- `none`;
- `kill:STEP`: SIGKILL to itself straight after STEP was written, `kill-before:STEP` straight before;
- `gone:KIND` and others, see `faulty_grid.py`: the first hospital fails at its first message of that kind, or, with
  `other-` in front, the second does;
- `disk:publish`: there is no room for the version, once.

`python coordinator_process.py serve` forks such a process for each line that it reads, see `serve`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from pydantic import BaseModel
from torch import Tensor

from client.app import app
from common.learning.model import checkpoint
from common.learning.model.card import ModelCard
from common.protocol.bundle import Bundle, installed_bundle
from server.app import carry_on
from server.campaign.context import open_house, utc_now
from server.campaign.journal import DatabaseJournal
from server.runtime.control import Node, RunStatus
from server.runtime.coordinator import Coordinator

sys.path.insert(0, str(Path(__file__).parent))
from faulty_grid import FaultyGrid

SECONDS = 300
"""That a forked process may take."""


def serve() -> None:
    """Fork for each line of JSON, `[OUTPUT, ERRORS, DIR, SITES, FAULT]`, and answer with the exit code.

    The libraries are loaded once: they take several times as long as a campaign of this size. Returns in the fork.
    """
    import accelerate  # noqa: F401
    import pandas  # noqa: F401
    import sklearn.metrics
    import sklearn.svm  # noqa: F401
    import transformers.models.bert.modeling_bert  # noqa: F401

    for line in sys.stdin:
        output, errors, *sys.argv[1:] = json.loads(line)
        pid = os.fork()

        if pid == 0:
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, path in ((1, output), (2, errors)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            return

        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)

    sys.exit()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class LocalRuns:
    """Runs that are carried on in this process, at once."""

    def __init__(self, folder: Path, sites: Path, how: str, kind: str) -> None:
        self.folder = folder
        self.sites = sites
        self.how = how
        self.kind = kind
        self.count = 0
        self.names = sorted(path.name for path in sites.iterdir() if path.is_dir())

    def start(
        self,
        bundle: Bundle,  # noqa: ARG002 - see `Runs`
        config: Mapping[str, bool | int | float | str],
        series: int | None,  # noqa: ARG002
    ) -> tuple[int, int]:
        self.count += 1
        nodes = {n: {"site-dir": str(self.sites / name)} for n, name in enumerate(self.names, start=1)}
        victim = 2 if self.how.startswith("other-") else 1
        grid = FaultyGrid(app, nodes, self.how.removeprefix("other-"), self.kind, victim)
        carry_on(grid, self.folder, int(config["campaign"]), int(config["attempt"]), self.count)

        return self.count, 1

    def status(self, run: int) -> RunStatus:  # noqa: ARG002
        return RunStatus("finished", "completed", "")

    def stop(self, run: int) -> bool:  # noqa: ARG002
        return False

    def nodes(self) -> list[Node]:
        return []

    def register_node(self, openssh_public_key: bytes, name: str) -> int:  # noqa: ARG002
        return 1 + self.names.index(name.rsplit("-", 1)[0])

    def unregister_node(self, node: int) -> None:
        """Nobody is there to shut out."""


def main() -> None:
    folder = Path(sys.argv[1])
    sites = Path(sys.argv[2])
    fault = sys.argv[3]
    how, _, at = fault.partition(":")
    put = DatabaseJournal.put

    def faulty_put(
        journal: DatabaseJournal, step: str, body: BaseModel, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        if how == "kill-before" and step == at:
            die()
        put(journal, step, body, weights)
        if how == "kill" and step == at:
            die()

    patch.object(DatabaseJournal, "put", faulty_put).start()
    if how == "disk":
        # The registry imports it when it writes; the rounds of training have imported the real one already.
        save = checkpoint.save_checkpoint
        full = [True]

        def save_checkpoint(folder: Path, state: Mapping[str, Tensor], card: ModelCard) -> str:
            if full.pop() if full else False:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            try:
                return save(folder, state, card)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        checkpoint.save_checkpoint = save_checkpoint

    late = [timedelta()]
    house = open_house(folder, lambda: utc_now() + late[0])
    house.registry.recover()
    coordinator = Coordinator(house, LocalRuns(folder, sites, how, at), installed_bundle())

    for _ in range(12):
        coordinator.tick()
        if house.store.open() is None:
            break
        late[0] += timedelta(minutes=15)

    if how.startswith("kill") or (how not in {"none", "disk"} and not FaultyGrid.struck):
        sys.exit("the fault did not strike")
    row = house.store.all()[-1]
    sys.stdout.write(f"{row.state}\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    main()
