"""The file of patients who must not be used again, written before the ledger and, if wanted, on another disk.

It has a header with a check value of the site's secret, then lines `stop|lift PSEUDONYM RECEIPT RECEIVED [MORE]
CHECKSUM`, which are only appended. MORE gives the kind of the revocation and who recorded it, because a database
restored from a backup may lack both; lines of earlier releases have none. Only complete lines count; an unfinished last
line was never acknowledged. Running loaders watch the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from client.revocations.tombstones.tombstone import Tombstone, TombstoneMap
from common.disk import unwritable
from common.errors import CohortError, OutputError
from common.files import sync_folder

_HEADER = "fedforget-tombstones-1"
_LINES_AT_ONCE = 5000
_BLOCK_BYTES = 2**20


_LINE = re.compile(
    r"(stop|lift) ([0-9a-f]{64}) ([A-Za-z0-9._-]{1,64}) (\S{1,40})(?: (\S{1,2000}))? ([0-9a-f]{16})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class TombstoneFile:
    """The file at `path` of a site; `check` is the check value of its secret."""

    path: Path
    check: str

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file against other writing threads and processes.

        Raises:
            OutputError: its folder is missing or cannot be written.
        """
        try:
            handle = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as err:
            raise self._unwritable(err) from None

        try:
            # The kernel releases it with the handle, also when the process is killed.
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def append(self, stones: Collection[Tombstone]) -> None:
        """Append lines; they are on the disk when this returns. Call it with the file `locked`.

        Raises:
            CohortError: the file is damaged or another site's.
            OutputError: the disk cannot be written.
        """
        if not stones:
            return
        try:
            is_new = not self.path.exists()
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                header = _line(f"{_HEADER} {self.check}")
                content = file.read(1024)

                if header.startswith(content.decode("ascii", errors="replace")):  # new, or the first line is incomplete
                    start = header
                    end = 0
                else:
                    self._check_header(content.partition(b"\n")[0])
                    start = ""
                    end = _whole_until(file.fileno())

                # What a killed process left of its last line was never acknowledged: it is cut off.
                file.truncate(end)
                _add(file.fileno(), end, _blocks(start, stones))

            # A name that is not on the disk may be lost with the power, and every stop with it.
            if is_new:
                sync_folder(self.path.parent)
        except OSError as err:
            raise self._unwritable(err) from None

    def read(self) -> TombstoneMap | None:
        """The content of the file, or None if it does not exist.

        Raises:
            CohortError: damaged, or made with another secret.
        """
        stones: TombstoneMap = {}

        try:
            self.read_on(0, stones)
        except FileNotFoundError:
            return None

        return stones

    def read_on(self, start: int, into: TombstoneMap) -> int:
        """Apply the complete lines from byte `start` on to `into`, and return where they end. Raises like `read`.

        A block at a time: a register of a million patients is larger than what becomes of it in memory.
        """
        end = start
        rest = b""

        try:
            with self.path.open("rb") as file:
                file.seek(start)
                while block := file.read(_BLOCK_BYTES):
                    content = rest + block
                    # Up to the last line break: what follows may still be being written.
                    size = content.rfind(b"\n") + 1
                    if size:
                        self._apply(content[: size - 1], into, with_header=end == 0)
                    end += size
                    rest = content[size:]
        except FileNotFoundError:
            raise
        except OSError as err:
            raise self._damaged() from err

        return end

    def _apply(self, content: bytes, into: TombstoneMap, *, with_header: bool) -> None:
        """Apply complete lines to `into`; with `with_header` the first is the header. Raises like `read`."""
        lines = content.split(b"\n")
        if with_header:
            self._check_header(lines.pop(0))
        same: dict[str, str] = {}
        times: dict[str, datetime] = {}

        for line in lines:
            stone = _parsed(line, same, times)
            # One damaged line is enough: nobody could tell whom it stops.
            if stone is None:
                raise self._damaged()
            if stone.kind == "stop":
                into.setdefault((stone.pseudonym, stone.receipt), stone)
            else:
                into.pop((stone.pseudonym, stone.receipt), None)

    def _check_header(self, line: bytes) -> None:
        header = line.decode("ascii", errors="replace")
        if header + "\n" == _line(f"{_HEADER} {self.check}"):
            return
        # Sound in itself, but with another check value: the file belongs to another secret.
        if header.startswith(f"{_HEADER} ") and header + "\n" == _line(header.rpartition(" ")[0]):
            raise CohortError(
                "made with another secret for pseudonyms, so that no patient can be found in it",
                where=str(self.path),
                remedy="restore the matching secrets/pseudonyms; nothing runs until then",
            )

        raise self._damaged()

    def _damaged(self) -> CohortError:
        return CohortError(
            "damaged", where=str(self.path), remedy="restore it from a backup; nothing is trained until then"
        )

    def _unwritable(self, err: OSError) -> OutputError:
        return unwritable(err, self.path, remedy="check the folder and its disk")


def _blocks(start: str, stones: Collection[Tombstone]) -> Iterator[bytes]:
    """`start` and the lines of tombstones, some thousand at a time."""
    lines = [start]
    times: dict[datetime, str] = {}

    for s in stones:
        if s.received not in times:
            times[s.received] = _time(s.received)
        lines.append(_line(" ".join(filter(None, (s.kind, s.pseudonym, s.receipt, times[s.received], s.more)))))
        if len(lines) >= _LINES_AT_ONCE:
            yield "".join(lines).encode("ascii")
            lines.clear()

    yield "".join(lines).encode("ascii")


def _add(handle: int, end: int, blocks: Iterable[bytes]) -> None:
    """Write at `end` and sync to disk; on failure nothing of it remains."""
    try:
        at = end
        for block in blocks:
            bytes_written = 0
            # A write may take less than it is given, as on a disk that is nearly full.
            while bytes_written < len(block):
                bytes_written += os.pwrite(handle, block[bytes_written:], at + bytes_written)
            at += bytes_written
        os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, end)
            os.fsync(handle)

        raise


def _whole_until(handle: int) -> int:
    """Where the last complete line of a file ends."""
    size = os.fstat(handle).st_size
    step = 4096

    # From the end, as only the last line can be incomplete.
    for start in range(max(size - step, 0), -step, -step):
        begin = max(start, 0)
        newline = os.pread(handle, step, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1

    return 0


def _line(text: str) -> str:
    return f"{text} {hashlib.sha256(text.encode('ascii')).hexdigest()[:16]}\n"


def _parsed(line: bytes, same: dict[str, str], times: dict[str, datetime]) -> Tombstone | None:
    """A line; of texts and times that many lines have, `same` and `times` keep one."""
    text = line.decode("ascii", errors="replace")
    match = _LINE.fullmatch(text)
    if match is None or hashlib.sha256(line[:-17]).hexdigest()[:16] != match[6]:
        return None
    kind: Literal["stop", "lift"] = "stop" if match[1] == "stop" else "lift"
    receipt = same.setdefault(match[3], match[3])
    more = same.setdefault(match[5] or "", match[5] or "")
    try:
        if match[4] not in times:
            times[match[4]] = datetime.fromisoformat(match[4])
    except ValueError:
        return None

    return Tombstone(kind, match[2], receipt, times[match[4]], more)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
