"""What the bench of the wire counts and prints; `make bench-wire` runs it."""

from __future__ import annotations

import importlib.util
import socket
import threading
import tomllib
from pathlib import Path

import pytest
import torch

from common.learning.model.frozen import frozen_names
from simulations.bench.meters import Relay
from simulations.bench.wire.bench import CASES, MANIFEST, Figures, report
from simulations.bench.wire.case import shapes


def test_the_relay_passes_on_what_comes_and_counts_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(int(server.getsockname()[1]))

        def answer() -> None:
            link, _ = server.accept()
            with link:
                got = b"".join(iter(lambda: link.recv(65536), b""))
                link.sendall(got[:1000])

        thread = threading.Thread(target=answer)
        thread.start()

        with socket.create_connection(("127.0.0.1", relay.port)) as site:
            site.sendall(bytes(300_000))
            site.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: site.recv(65536), b"")) == bytes(1000)

        thread.join()
        relay.close()

    assert (relay.up, relay.down) == (300_000, 1000)


def test_the_model_has_110_million_parameters_most_of_them_in_the_text_encoder() -> None:
    found = shapes(1.0)
    count = {name: torch.Size(shape).numel() for name, shape in found.items()}
    assert 109e6 < sum(count.values()) < 111e6
    frozen = frozen_names(found, CASES[2].model)
    assert 0.7 < sum(count[name] for name in frozen) / sum(count.values()) < 0.75


@pytest.mark.parametrize("app", ["baseline", "lean"])
def test_the_bundle_names_apps_that_are_there(app: str) -> None:
    components = tomllib.loads(MANIFEST.format(app=app))["tool"]["flwr"]["app"]["components"]
    for place in components.values():
        module, _, name = place.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        assert f"\n{name} = " in Path(str(spec.origin)).read_text(encoding="utf-8")


def test_shares_are_of_the_first_case() -> None:
    mebi = 2**20
    whole = Figures(up=800, down=200, superlink=300 * mebi, serverapp=700 * mebi, seconds=9.0, distance=1.0)
    half = Figures(up=300, down=150, superlink=100 * mebi, serverapp=300 * mebi, seconds=8.0, distance=1.0)
    lines = report([(CASES[0], whole), (CASES[1], half)], 0.001).splitlines()
    assert "**100.0%**" in lines[-2]
    assert "**45.0%**" in lines[-1]
    assert "**40.0%**" in lines[-1]
