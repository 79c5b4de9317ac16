"""Run a server function against simulated sites: on Flower's simulation engine, or in this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from client.app import SITES_VARIABLE
from common.errors import FedForgetError
from simulations.run.local_grid import LocalGrid

EngineName = Literal["flower", "inprocess"]


def run_on(engine: EngineName, main: Callable[[Grid], None], *, sites_folder: Path, sites: int) -> None:
    """Call `main` with a grid of `sites` nodes that serve the folders in `sites_folder`.

    Whatever `main` raises is raised here.
    """
    os.environ[SITES_VARIABLE] = str(sites_folder.resolve())

    if engine == "inprocess":
        from client.app import app  # noqa: PLC0415 - torch and the site's code, only where it runs

        # One thread, as a client of Flower's engine has: sums over several threads would give other bits.
        torch.set_num_threads(1)
        # In the order of names, which is also the order in which a site finds its folder under Flower's engine.
        folders = sorted(path.parent for path in sites_folder.glob("*/site.json"))
        main(LocalGrid(app, {n + 1: {"site-dir": str(folders[n].resolve())} for n in range(sites)}))

        return

    _run_flower(main, sites)


def _run_flower(main: Callable[[Grid], None], sites: int) -> None:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # One thread a client: the engine runs as many clients at once as there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from flwr.simulation import run_simulation  # noqa: PLC0415 - imports Ray

    from client.app import app as client_app  # noqa: PLC0415 - after the environment is set

    logging.getLogger("flwr").setLevel(logging.ERROR)
    failures: list[BaseException] = []
    server_app = ServerApp()

    @server_app.main()
    def server_main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower hands it over
        try:
            main(grid)
        except BaseException as error:  # noqa: BLE001 - the engine would log it and go on as if nothing had been
            failures.append(error)

    # A worker for each site at most; more would have nothing to do.
    cores = max(1, os.cpu_count() or 1)
    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=sites,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": min(cores, sites), "include_dashboard": False, "log_to_driver": False},
        },
    )
    if failures:
        raise failures[0] if isinstance(failures[0], Exception) else FedForgetError("stopped")
