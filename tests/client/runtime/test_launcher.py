"""The launcher against the Runtime API of Flower's SuperNode, served here; only the SuperLink behind is missing."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate.in_memory_corestate import InMemoryCoreState
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from client.membership.approval import approve, withdraw
from client.runtime import clientapp
from client.runtime.launcher import Launcher
from client.runtime.supernode import REFUSAL, Tasks, supernode_argv
from client.settings import SiteFolder
from common.errors import InputError, UnavailableError
from common.platform.keys.private_keys import new_secret
from common.protocol.bundle import Bundle, bundle_of, pack

MANIFEST = """\
[project]
name = "probe"
version = "1.0.0"
description = "d"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "someone"
[tool.flwr.app.components]
serverapp = "probe_app:app"
clientapp = "probe_app:app"
"""
CODE = """\
import json, os, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()
@app.query()
def answer(message, context):
    home = Path(os.environ["FLWR_HOME"])
    arguments = Path("/proc/self/cmdline").read_bytes().decode().split("\\0")
    facts = {"home": str(home), "mode": home.stat().st_mode & 0o777, "site": os.environ["FEDFORGET_SITE"]}
    OUT.write_text(json.dumps({**facts, "arguments": arguments, "pid": os.getpid()}))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(0.1)
    return Message(RecordDict({"x": ConfigRecord({"y": 1})}), reply_to=message)
"""


def probe_of(out: Path, seconds: float = 0) -> Bundle:
    """An app with code in its bundle, which writes what it sees of its process to the file `out`."""
    code = f"from pathlib import Path\nOUT, SECONDS = Path({str(out)!r}), {seconds}\n{CODE}"
    return pack({"pyproject.toml": MANIFEST.encode(), "probe_app.py": code.encode()})


RUN = 7
NODE = 9


class SuperNode:
    """Flower's state and Runtime API of a SuperNode at one port."""

    def __init__(self, secret: bytes, port: int) -> None:
        self.secret = secret
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a restart does."""
        self.objects = ObjectStoreFactory()
        self.factory = NodeStateFactory(objectstore_factory=self.objects)
        self.state = self.factory.state()
        self.state.set_node_id(NODE)

    def forget_messages(self) -> None:
        """Drop what was answered; the messages of a test are equal and would have one id."""
        self.state.delete_messages()

    def receive(self, bundle: Bundle) -> str:
        """A message of a run of `bundle` arrives; answers the message's id."""
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = RUN
        TaskIdentity.node_id = 1
        message = Message(RecordDict({"config": ConfigRecord({"x": 1})}), dst_node_id=NODE, message_type="query")
        identity = message.metadata.__dict__["_message_id"] = message.object_id
        run = Run.create_empty(RUN)
        run.fab_id = "someone/probe"
        run.fab_version = "1.0.0"
        run.fab_hash = bundle.digest
        self.state.store_fab(Fab(bundle.digest, bundle.content, {}))
        self.state.store_run(run)
        self.state.set_run_series_context(run.series_id, Context(RUN, NODE, {}, RecordDict(), {}))
        self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash=bundle.digest)
        store = self.objects.store()
        store.preregister(RUN, get_object_tree(message))
        for name, part in get_all_nested_objects(message).items():
            store.put(name, part.deflate())
        bare = remove_content_from_message(message)
        bare.metadata.__dict__["_message_id"] = identity
        self.state.store_message(bare)

        return identity

    def reply(self, identity: str, seconds: float = 60.0) -> tuple[int, str | None] | None:
        """The reply to a message: code and reason of its error, None when it is an answer."""
        end = time.monotonic() + seconds

        while time.monotonic() < end:
            for message in self.state.get_messages_legacy(run_ids=[RUN], is_reply=True):
                assert message.metadata.reply_to_message_id == identity
                return (message.error.code, message.error.reason) if message.has_error() else None

            time.sleep(0.05)

        pytest.fail("no reply came")

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The API, until the block ends."""
        app = create_app(self.factory, self.secret)

        with socket.create_server(("127.0.0.1", self.port)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()

            try:
                while not server.started:
                    time.sleep(0.01)
                yield
            finally:
                server.should_exit = True
                thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    """A site's folder with a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = SiteFolder(tmp_path / "site")
    new_secret(site.supernode_secret)
    site.settings_file.write_text(
        f'name = "north"\ngateway = "g:1"\ncoordination = "g:2"\nca_fingerprint = "f"\n[ports]\nsupernode = {port}\n'
    )

    return site


@pytest.fixture
def supernode(folder: SiteFolder) -> SuperNode:
    return SuperNode(folder.supernode_secret.read_bytes(), folder.settings().ports.supernode)


@contextmanager
def launching(folder: SiteFolder, supernode: SuperNode) -> Iterator[threading.Event]:
    """A launcher that runs until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=Launcher(folder, supernode.address, stop).run)
    thread.start()

    try:
        yield stop
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.integration
def test_approvals_are_read_for_each_task_and_refusals_run_nothing(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.json"
    bundle = probe_of(out)
    caplog.set_level(logging.INFO, "fedforget.launcher")

    with supernode.serving(), launching(folder, supernode):
        assert supernode.reply(supernode.receive(bundle)) == (7, REFUSAL)
        assert not out.exists()
        assert f"decision=refused bundle={bundle.digest}" in caplog.text

        supernode.forget_messages()
        approve(folder.settings_file, bundle.digest)
        assert supernode.reply(supernode.receive(bundle)) is None
        facts = json.loads(out.read_text())
        assert facts["mode"] == 0o700
        assert facts["site"] == str(folder.root.resolve())
        assert "--token" not in facts["arguments"]

        supernode.forget_messages()
        out.unlink()
        withdraw(folder.settings_file, bundle.digest)
        assert supernode.reply(supernode.receive(bundle)) == (7, REFUSAL)
        assert not out.exists()

    assert not list(folder.flower_home.iterdir()), "neither code nor token is left lying"


@pytest.mark.integration
def test_a_bundle_brings_its_own_package_whatever_it_is_called(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    code = f"from pathlib import Path\nOUT, SECONDS = Path({str(out)!r}), 0\n{CODE}".encode()
    manifest = MANIFEST.replace("probe_app:app", "client.probe:app").encode()
    bundle = pack({"pyproject.toml": manifest, "client/__init__.py": b"", "client/probe.py": code})
    approve(folder.settings_file, bundle.digest)
    with supernode.serving(), launching(folder, supernode):
        assert supernode.reply(supernode.receive(bundle)) is None
    assert out.exists()


def test_nothing_is_approved_while_site_toml_cannot_be_read(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path
) -> None:
    bundle = probe_of(tmp_path / "out.json")
    approve(folder.settings_file, bundle.digest)
    with supernode.serving(), launching(folder, supernode):
        folder.settings_file.write_text(folder.settings_file.read_text() + "oops")
        assert supernode.reply(supernode.receive(bundle)) == (7, REFUSAL)

    assert not (tmp_path / "out.json").exists()


def test_the_launcher_waits_for_a_supernode_and_goes_on_after_its_restart(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path
) -> None:
    other = bundle_of("6.6.6")
    with launching(folder, supernode):
        for _ in range(2):
            time.sleep(0.3)
            with supernode.serving():
                assert supernode.reply(supernode.receive(other)) == (7, REFUSAL)
            supernode.reset()


@pytest.mark.integration
def test_an_app_that_hangs_is_killed_when_its_instruction_expires_and_the_supernode_answers(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    hanging = probe_of(out, seconds=600)
    approve(folder.settings_file, hanging.digest)

    with supernode.serving(), launching(folder, supernode):
        asked = supernode.receive(hanging)
        _until(out.exists)
        _until(lambda: "pid" in out.read_text())
        facts = json.loads(out.read_text())

        with pytest.MonkeyPatch.context() as of_the_app:
            of_the_app.setenv("FEDFORGET_TASK", facts["home"])
            clientapp.note_expiry(datetime.now(UTC) + timedelta(hours=1))
            time.sleep(2.0)
            assert os.path.exists(f"/proc/{facts['pid']}")
            clientapp.note_expiry(datetime.now(UTC))

        _until(lambda: not os.path.exists(f"/proc/{facts['pid']}"))
        # The SuperNode gives a silent ClientApp a minute.
        assert isinstance(supernode.state, InMemoryCoreState)
        for record in supernode.state.task_token_store.values():
            record.active_until = datetime.now(UTC)
        error = supernode.reply(asked)
        assert error is not None
        assert error[0]


@pytest.mark.integration
def test_a_stopped_launcher_takes_the_running_app_with_it(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    bundle = probe_of(out, seconds=600)
    approve(folder.settings_file, bundle.digest)

    with supernode.serving():
        with launching(folder, supernode):
            supernode.receive(bundle)
            _until(out.exists)
            _until(lambda: "pid" in out.read_text())

        pid = json.loads(out.read_text())["pid"]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.integration
def test_a_killed_launcher_leaves_no_app_running_and_the_next_clears_what_was_unpacked(
    folder: SiteFolder, supernode: SuperNode, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    bundle = probe_of(out, seconds=600)
    approve(folder.settings_file, bundle.digest)

    with supernode.serving():
        launcher = subprocess.Popen([sys.executable, "-m", "client.runtime.launcher", "--dir", str(folder.root)])
        supernode.receive(bundle)
        _until(out.exists)
        _until(lambda: "pid" in out.read_text())
        launcher.kill()
        launcher.wait()
        _until(lambda: not os.path.exists(f"/proc/{json.loads(out.read_text())['pid']}"))
        assert list(folder.flower_home.glob("task-*"))
        with launching(folder, supernode):
            _until(lambda: not list(folder.flower_home.glob("task-*")))


@pytest.mark.parametrize("secret", [b"guessed", b"0" * 64])
def test_without_the_secret_nobody_takes_a_task(supernode: SuperNode, secret: bytes) -> None:
    with supernode.serving():
        supernode.receive(bundle_of("6.6.6"))
        tasks = Tasks(supernode.address, secret)
        with pytest.raises(UnavailableError, match="another secret"):
            tasks.acquire()
        tasks.close()


def test_a_secret_that_others_can_read_is_refused(folder: SiteFolder, supernode: SuperNode) -> None:
    folder.supernode_secret.chmod(0o644)
    with pytest.raises(InputError, match="others can read"):
        Launcher(folder, supernode.address, threading.Event())


def test_the_supernode_is_started_on_loopback_with_its_key_and_without_a_runner_of_flowers(folder: SiteFolder) -> None:
    argv = supernode_argv(folder, folder.settings())
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--isolation") + 1] == "process"
    assert argv[argv.index("--superexec-auth-secret-file") + 1] == str(folder.supernode_secret)
    assert "--insecure" not in argv


def _until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come in time"
        time.sleep(0.05)
