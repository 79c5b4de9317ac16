"""What `up` does on both sides: one at a time, no exposed secret, a monitor, and an orderly end on a signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from common.errors import InputError, OutputError, RefusedError, UnavailableError
from common.platform.processes.beats import Beat
from common.platform.processes.monitoring import monitor
from common.platform.processes.service import Port, accepts, refuse_exposed, refuse_taken
from common.platform.processes.supervisor import Child, Supervisor
from common.platform.processes.up_lock import is_up, only_one
from common.platform.terminal.console import clear_errors


def test_a_second_up_in_the_same_folder_is_refused_and_the_first_is_seen(tmp_path: Path) -> None:
    assert not is_up(tmp_path)
    with only_one(tmp_path):
        assert is_up(tmp_path)
        with pytest.raises(RefusedError, match="another `up` runs"), only_one(tmp_path):
            pass

    assert not is_up(tmp_path)
    with only_one(tmp_path):
        pass


def test_the_lock_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    script = "import sys, time; from pathlib import Path; from common.platform.processes.up_lock import only_one\n"
    script += f"with only_one(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"

    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_up(tmp_path)
        holder.kill()

    assert not is_up(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/up\.lock: cannot write"), only_one(tmp_path / "nowhere"):
        pass


def test_every_secret_that_others_can_read_is_named_and_none_is_quoted(tmp_path: Path) -> None:
    good, open_, group = (tmp_path / name for name in ("good", "open", "group"))
    for path, mode in ((good, 0o600), (open_, 0o644), (group, 0o640)):
        path.write_text("hush")
        path.chmod(mode)

    refuse_exposed([good])
    with pytest.raises(InputError) as caught:
        refuse_exposed([good, open_, group, tmp_path / "missing"])
    text = str(caught.value)
    assert all(f"chmod 600 {path}" in text for path in (open_, group))
    assert "missing: cannot read" in text
    assert "hush" not in text
    assert str(good) not in text


def test_a_listening_port_is_told_from_a_free_one() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.listen()
        assert accepts("0.0.0.0", port)()  # noqa: S104 - dialled, not bound

    assert not accepts("127.0.0.1", port)()


class Silence:
    def output(self, process: str, text: str) -> None:
        pass

    def event(self, process: str, event: str, message: str, level: str = "INFO") -> None:
        pass


def test_health_is_503_until_every_process_is_up_and_metrics_name_processes() -> None:
    children = [Child("superlink", ("true",), {}), Child("superexec", ("true",), {})]
    with monitor(Supervisor(children, Silence()), 0) as port:
        health = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)

    assert health.status_code == 503
    states = {"superlink": "waiting", "superexec": "waiting"}
    assert health.json() == {"healthy": False, "processes": states, "beats": {}}
    assert 'fedforget_process_up{process="superexec"} 0.0' in metrics.text
    assert 'fedforget_process_restarts_total{process="superlink"} 0.0' in metrics.text


def test_health_is_503_until_what_must_happen_again_and_again_has_happened_lately(tmp_path: Path) -> None:
    now = [1000.0]
    beat = Beat("last tick", tmp_path / "tick", 60.0, lambda: now[0])

    with monitor(Supervisor([], Silence()), 0, beats=[beat]) as port:

        def health() -> tuple[int, float | None]:
            answer = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
            return answer.status_code, answer.json()["beats"]["last tick"]["age_seconds"]

        assert health() == (503, None)
        beat.touch()
        os.utime(beat.path, (1000.0, 1000.0))
        now[0] = 1060.0
        assert health() == (200, 60.0)
        now[0] = 1061.0
        assert health() == (503, 61.0)
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text

    assert 'fedforget_beat_age_seconds{beat="last tick"} 61.0' in metrics


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - a port is tried, nothing is served
def test_every_taken_port_is_named_with_its_setting_and_none_that_is_free(listen: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            free = closed.getsockname()[1]
        taken = [listener.getsockname()[1] for listener in (one, other)]
        ports = [Port(f"p{n}", listen, number, f"[ports] p{n}") for n, number in enumerate([*taken, free])]
        with pytest.raises(UnavailableError) as caught:
            refuse_taken(ports)

    text = str(caught.value)
    assert all(f"port {number} (p{n}) at {listen}: another process listens" in text for n, number in enumerate(taken))
    assert "[ports] p1" in text
    assert str(free) not in text
    refuse_taken(ports)


def test_a_taken_monitor_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with (
            pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"),
            monitor(Supervisor([], Silence()), port),
        ):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_says_ready_serves_its_health_and_ends_with_0_on_a_signal(tmp_path: Path, number: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    program = tmp_path / "up.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        from common.platform.processes.log_filter import withhold_unknown
        from common.platform.processes.service import keep_up
        from common.platform.processes.supervisor import Child
        from common.platform.terminal.console import clear_errors
        script = "import time; print('patient Anna Berg', flush=True); time.sleep(60)"
        child = Child("app", (sys.executable, "-c", script), dict(os.environ), settle=0.1)
        with clear_errors():
            keep_up([child], Path({str(tmp_path / "logs")!r}), withhold_unknown, {port}, as_json=True)
        """)
    )

    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        entries: list[dict[str, object]] = []
        while not entries or entries[-1].get("event") != "ready":
            entries.append(json.loads(process.stdout.readline()))
        health = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(10) == 0

    assert (health.status_code, health.json()["processes"]) == (200, {"app": "up"})
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"
    written = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert "<line withheld: 17 characters>" in written
    assert "Berg" not in written + str(entries)


def test_a_refused_up_is_one_line_and_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    with only_one(tmp_path), pytest.raises(typer.Exit) as caught, clear_errors(), only_one(tmp_path):
        pass
    assert caught.value.exit_code == 4
    assert capsys.readouterr().err.count("\n") == 1
