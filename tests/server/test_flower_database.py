import sqlite3
from contextlib import closing
from pathlib import Path

from flwr.supercore.constant import SQLITE_PRAGMAS

from server.flower_database import SECURE_DELETE, LogWiper, truncate_log

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
