import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import SQLITE_PRAGMAS
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from common.errors import UnavailableError
from server.runtime.flower_database import SECURE_DELETE, LogWiper, node_keys, truncate_log

SECRET = b"weights-of-a-patient" * 2000


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for name, value in (*SQLITE_PRAGMAS, SECURE_DELETE):
        connection.execute(f"PRAGMA {name} = {value}")
    return connection


def remains(path: Path) -> list[str]:
    return [file.name for file in path.parent.iterdir() if SECRET[:20] in file.read_bytes()]


def test_deleted_weights_are_in_neither_file_once_the_log_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    with closing(connect(path)) as superlink:
        superlink.execute("CREATE TABLE objects (content BLOB)")
        superlink.execute("INSERT INTO objects VALUES (?)", [SECRET])
        superlink.execute("DELETE FROM objects")
        assert remains(path), "the log still has them"
        wiper = LogWiper(path)
        wiper.step(campaign_is_open=True)
        assert remains(path)
        wiper.step(campaign_is_open=False)
        assert remains(path) == []


def test_a_log_that_is_read_just_now_is_emptied_at_a_later_step(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    with closing(connect(path)) as superlink, closing(connect(path)) as reader:
        superlink.execute("CREATE TABLE objects (content BLOB)")
        superlink.execute("INSERT INTO objects VALUES (?)", [SECRET])
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM objects").fetchone()
        superlink.execute("DELETE FROM objects")
        wiper = LogWiper(path)
        wiper.step(campaign_is_open=False)
        assert remains(path)
        reader.execute("COMMIT")
        wiper.step(campaign_is_open=False)
        assert remains(path) == []


def test_a_database_that_is_not_there_yet_needs_nothing(tmp_path: Path) -> None:
    assert truncate_log(tmp_path / "superlink.db")
    assert not (tmp_path / "superlink.db").exists()


@pytest.mark.filterwarnings("ignore:No path_separator:DeprecationWarning")  # of Flower's own migrations
def test_the_keys_are_those_of_the_nodes_that_superlink_knows_and_has_not_shut_out(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with pytest.raises(UnavailableError, match="nodes cannot be read"):
        node_keys(path)
    assert not path.exists()
    state = LinkStateFactory(str(path), NoOpFederationManager(), ObjectStoreFactory()).state()
    nodes = [state.create_node("hospital", "hospital", key, 30) for key in (b"north", b"south")]
    state.delete_node("hospital", nodes[1])
    assert node_keys(path) == {b"north"}
