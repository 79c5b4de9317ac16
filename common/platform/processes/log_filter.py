"""An allow-list for the output of processes at a hospital, since a traceback can quote a patient's data.

It keeps the JSON lines of our own loggers, known lines of Flower (in which only numbers and hexadecimal digests vary),
and from tracebacks the places in installed code and the names of well-known exceptions.
"""

from __future__ import annotations

import builtins
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from common import errors
from common.platform.processes.structured_log import parse_own
from common.printable import printable

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PREFIX = re.compile(r"(?:\S+Z )?(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?: ?:?(?: +(.*))?)")
# SuperNodes and the coordinator poll every few seconds: successful answers are not logged.
_ROUTINE = re.compile(r'\[uvicorn\.access\] .* HTTP/1\.[01]" 2\d\d|ControlServicer\.List(Runs|Nodes)')
_FRAME = re.compile(r'File "([^"]+\.py)", line (\d+), in ([A-Za-z_]\w*|<module>|<lambda>)')
_CLASS = re.compile(r"(?:[a-z_]+\.)*([A-Z]\w+)(?::.*)?")
_FLOWER = tuple(
    re.compile(pattern)
    for pattern in (
        r"Starting Flower (SuperNode|SuperLink|SuperExec|ClientApp|ServerApp)",
        r"Start `(flwr|flower)-[a-z]+` process",
        r"SuperNode ID: \d+",
        r"\[RUN \d+\]",
        r"\[RUN \d+, ROUND [a-z0-9:._-]{0,40}\]",
        r"Receiving: [a-z._]{1,40} message \(ID: [0-9a-f]{1,64}\)",
        r"Sending: [a-z._]{1,40} message \(ID: [0-9a-f]{1,64}\)",
        r"Received successfully",
        r"Sent successfully",
        r"Run ID \d+ is not in `RUNNING` status\. Ignoring (reply )?message [0-9a-f]{1,64}\.",
        r"Run transitioned to a non-`RUNNING` status while receiving a message\. Ignoring the message\.",
        r"Connection successful after [\d.]+ seconds and \d+ tries\.",
        r"Connection attempt failed, retrying in [\d.]+ seconds",
        r"Giving up reconnection after [\d.]+ seconds and \d+ tries\.",
        r"SSL/TLS handshake error detected\.",
        r"Exit Code: \d{1,4}",
        r"\[code: \d{1,5}\] Failed to activate SuperNode\.?",
        r"Failed to initialize the connection to the SuperLink\.",
        r"The SuperNode could not establish a connection to the SuperLink\.",
        r"For more information, visit: <https://flower\.ai/docs/framework/[\w./-]{1,60}>",
        r"Runtime HTTP API server did not stop within [\d.]+ seconds\.",
        r"EXPERIMENTAL: SuperExec authentication is experimental and may change in future releases\.",
        r"(ClientApp|ServerApp) raised an exception",
        r"Failed to push reply message",
        r"Path argument `--[a-z-]+` does not point to a file\.",
        r"Traceback \(most recent call last\):",
        r"SuperNode terminated gracefully\.?",
        r"FastAPI lifespan: (startup|shutdown)",
        r"(Started|Finished) server process \[\d+\]",
        r"Waiting for application (startup|shutdown)\.",
        r"Application (startup|shutdown) complete\.",
        r"Uvicorn running on http://127\.0\.0\.1:\d+ \(Press CTRL\+C to quit\)",
        r"Shutting down",
    )
)
_EXCEPTIONS = frozenset(
    {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)}
    | {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BaseException)}
    | {"OutOfMemoryError", "OperationalError", "IntegrityError", "RpcError", "ValidationError"}
)
_OURS = Path(__file__).resolve().parents[3]
_CODE = (
    *(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "stdlib")),
    *(_OURS / name for name in ("common", "client", "server")),
)


def plain(text: str) -> str:
    """`text` on one line, without colours; control characters become spaces, other invisible ones are escaped."""
    return printable(_CONTROL.sub(" ", _ANSI.sub("", text))).rstrip()


def keep_all(text: str) -> tuple[str, str] | None:
    """Level and message of a printed line, unchanged; None for an empty or routine line. For the coordinator."""
    level, message, own = _read(text)
    return None if not message or (not own and _ROUTINE.fullmatch(message)) else (level, message)


def withhold_unknown(text: str) -> tuple[str, str] | None:
    """Level and message of a printed line, as far as known to be safe; None for an empty line. For hospitals."""
    level, message, own = _read(text)
    if not message:
        return None
    if own or any(pattern.fullmatch(message) for pattern in _FLOWER):
        return level, message
    return level, _place(message, _CODE) or _exception(message) or f"<line withheld: {len(message)} characters>"


def _read(text: str) -> tuple[str, str, bool]:
    """Level, message, and whether one of our own loggers wrote it."""
    line = plain(text)
    own = parse_own(line)
    # Our loggers never write texts of exceptions or of patients, so their lines pass as they are.
    if own is not None:
        return own[0], plain(own[1]), True
    match = _PREFIX.fullmatch(line)
    level, message = (match[1], match[2] or "") if match else ("INFO", line)

    return level, message.strip(), False


def _place(message: str, code: Iterable[Path]) -> str | None:
    match = _FRAME.fullmatch(message)
    if match is None:
        return None
    path = Path(match[1])
    # Only installed code: a path in a hospital's folders may hold names.
    inside = any(path.is_relative_to(root) for root in code) and ".." not in path.parts

    return f"at {path.parent.name}/{path.name}:{match[2]} {match[3]}" if inside else None


def _exception(message: str) -> str | None:
    match = _CLASS.fullmatch(message)
    if match is None or match[1] not in _EXCEPTIONS:
        return None
    return f"{match[1]} <text withheld: {len(message)} characters>"
