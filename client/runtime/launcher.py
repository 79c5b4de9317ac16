"""Starts an arriving app only if the site has approved its digest. It replaces `flower-superexec`.

Nothing in a bundle is unpacked or executed before the decision. One task runs at a time, in its own process and
folder, so that files unpacked by an earlier bundle are never loaded. Approvals are read again for each task.
"""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event

from client.membership.approval import approved_digests
from client.process import main
from client.runtime import clientapp
from client.runtime.supernode import Task, Tasks
from client.settings import FOLDER_VARIABLE, SiteFolder
from common.errors import FedForgetError, UnavailableError
from common.files import read_private, write_private
from common.installation import check
from common.platform.processes.flower import LOOPBACK, environment
from common.protocol.bundle import installed_bundle

log = logging.getLogger("fedforget.launcher")

_POLL = 0.2
_RETRY = 1.0
_GRACE = 3.0
"""Seconds between two polls for a task, after a failed poll, and from SIGTERM to SIGKILL of a ClientApp."""
_OVERLAP = 20.0
"""Seconds that a ClientApp has to exit once the next task has arrived: it may just have answered."""
_TASK_PREFIX = "task-"


class Launcher:
    """Takes tasks from the SuperNode of the site in `folder` until `stop` is set.

    Args:
        folder: the site's folder.
        address: `host:port` of the SuperNode.
        stop: set from a signal handler.
    """

    def __init__(self, folder: SiteFolder, address: str, stop: Event) -> None:
        self._folder = folder
        self._address = address
        self._stop = stop
        self._tasks = Tasks(address, read_private(folder.supernode_secret))

    def run(self) -> None:
        """Decide on each task as it arrives. If the SuperNode is down or restarting, wait for it."""
        clientapp.prepare()
        self._folder.flower_home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a killed launcher left may be the unpacked code of a bundle.
        for leftover in self._folder.flower_home.glob(f"{_TASK_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        problem = ""
        try:
            while not self._stop.is_set():
                try:
                    task = self._tasks.acquire()
                    if problem:
                        log.info("the SuperNode answers again")
                        problem = ""

                    # A task that arrived while another one ran needs no further poll.
                    while task is not None:
                        task = self._decide(task)
                    self._stop.wait(_POLL)
                except UnavailableError as err:
                    if str(err) != problem:
                        problem = str(err)
                        log.warning("%s", problem)

                    self._stop.wait(_RETRY)
        finally:
            self._tasks.close()

    def _decide(self, task: Task) -> Task | None:
        """Start or refuse a task; returns the next task if it arrived meanwhile."""
        # Approval is of a digest; a changed installation could run something else under it.
        is_approved = _is_intact() and task.digest in self._approved()
        level, decision = (logging.INFO, "approved") if is_approved else (logging.WARNING, "refused")
        log.log(level, "decision=%s bundle=%s task=%d", decision, task.digest, task.number)
        if is_approved:
            return self._start(task)
        self._tasks.refuse(task)

        return None

    def _approved(self) -> frozenset[str]:
        try:
            return approved_digests(self._folder.settings())
        except FedForgetError as err:
            log.error("nothing is approved while site.toml cannot be read: %s", err)
            return frozenset()

    def _start(self, task: Task) -> Task | None:
        with tempfile.TemporaryDirectory(prefix=_TASK_PREFIX, dir=self._folder.flower_home) as name:
            home = Path(name)
            token = home / "token"
            # In a file: arguments and the environment of a process can be read by others.
            write_private(token, task.token.encode())
            site = {FOLDER_VARIABLE: str(self._folder.root.resolve())}
            is_ours = task.digest == installed_bundle().digest
            variables = {**environment(home), **site}
            process = clientapp.start(self._address, token, home, variables, is_ours=is_ours)
            following = self._wait(process, home)

        log.info("ended task=%d exit_code=%d", task.number, process.exitcode)
        return following

    def _wait(self, process: BaseProcess, home: Path) -> Task | None:
        """Return when a ClientApp has exited, with the next task if that arrived first.

        A server sends a hospital the next message only when it has the previous answer or no longer wants it. Flower's
        ClientApp does not notice the latter: when its run has ended, it waits for its message forever. Flower's
        SuperNode, in turn, requests no other message until it has an answer or misses the ClientApp's heartbeat, so a
        hanging ClientApp would block the hospital. It is therefore killed when its instruction expires. SIGTERM would
        not do: the ClientApp would report its end, and the SuperNode would wait for the answer forever.
        """
        following = None
        # Until the ClientApp has read its instruction: the longest time that the site allows one.
        latest = datetime.now(UTC) + timedelta(hours=self._folder.settings().bounds.max_lifetime_hours)

        while not self._stop.is_set() and following is None:
            process.join(_RETRY)
            if process.exitcode is not None:
                return None
            if datetime.now(UTC) > (clientapp.expiry(home) or latest):
                log.warning("killing a ClientApp whose instruction has expired")
                process.kill()
                process.join()
                return None

            following = self._next()

        if following is not None:
            process.join(_OVERLAP)
            if process.exitcode is not None:
                return following
            log.warning("stopping a ClientApp whose answer is no longer wanted")

        process.terminate()
        process.join(_GRACE)
        if process.exitcode is None:
            process.kill()
            process.join()

        return following

    def _next(self) -> Task | None:
        try:
            return self._tasks.acquire()
        except UnavailableError:
            return None


def _stop_on_signals(set_stop: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: set_stop())


def _is_intact() -> bool:
    """Whether the installation is still the original one: a package may have been installed since the start."""
    try:
        check()
    except FedForgetError as err:
        log.error("nothing is approved: %s", err)
        return False

    return True


def run(folder: SiteFolder) -> None:
    """Launch until SIGTERM."""
    stop = Event()
    _stop_on_signals(stop.set)
    Launcher(folder, f"{LOOPBACK}:{folder.settings().ports.supernode}", stop).run()


if __name__ == "__main__":
    main("launcher", "Start approved apps only.", run)
