"""The doctor's probes: names, ports, TLS, clocks, disk, memory, GPU. A bad result never raises."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path

import httpx

from common.platform import checks
from common.platform.checks import Check
from common.platform.processes.flower import LOOPBACK
from common.platform.proxy import Proxy, ProxyRefusalError

_SECONDS = 5.0
_HOSTNAME_MISMATCH = 62
_IP_MISMATCH = 64
_EXPIRED = 10
# X509_V_ERR_* of OpenSSL.
_NOT_YET = 9
_ADDRESS = re.compile(r"\[?([^\]]+)\]?:(\d+)")


def disk(folder: Path, needed: int) -> Check:
    """Free space on the file system of `folder`."""
    return checks.space("disk", shutil.disk_usage(folder).free, needed, "free space, or move the folder")


def memory(needed: int) -> Check:
    """Memory available without swapping (proc_meminfo(5))."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if match is None:
        return Check("memory", "warn", "unknown")
    return checks.space("memory", int(match[1]) * 1024, needed, "stop other programs, or use a larger machine")


def gpu(device: str) -> Check:
    """The card that `device` (`auto`, `cpu`, `cuda`, `cuda:1`) would use."""
    import torch  # noqa: PLC0415 - takes a second, for this check alone

    if device == "cpu":
        return checks.ok("GPU", "not used: device = cpu")
    if not torch.cuda.is_available():
        if device == "auto":
            return Check("GPU", "warn", "none: training runs on the CPU", "install a driver and a CUDA build of torch")
        return Check("GPU", "fail", f"device = {device} and torch finds no card", "install a driver, or device = auto")

    index = torch.device(device).index or 0 if device != "auto" else 0
    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)

    return checks.ok("GPU", f"{name}, {free / checks.GIB:.0f} of {total / checks.GIB:.0f} GiB free")


def software() -> Check:
    """Versions of the software here."""
    names = ("fedforget", "flwr", "torch")
    parts = [f"Python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in names)]
    return checks.ok("software", ", ".join(parts))


def writable(folder: Path) -> Check:
    """Whether this user can write to the folder."""
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return checks.ok("folder", "writable")
    return Check("folder", "fail", "not a folder that this user can write", "check --dir and its owner")


def service(name: str, address: str, proxy: Proxy | None = None) -> list[Check]:
    """Check that the name in `host:port` resolves and that the port is open, through the proxy if one serves it."""
    host, port = split(address)
    if proxy is not None and proxy.serves(host, port):
        return [_through(name, host, port, proxy)]
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as err:
        remedy = "check the name in site.toml and this machine's DNS; a network with a proxy: set proxy there"
        return [Check(f"{name} name", "fail", f"{host} does not resolve: {err.strerror}", remedy)]

    name_check = checks.ok(f"{name} name", f"{host} is {addresses[0][4][0]}")
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as err:
        reason = "no answer" if isinstance(err, TimeoutError) else (err.strerror or "no answer")
        remedy = "is the coordinator up, and does a firewall here or there let this port out?"
        return [name_check, Check(f"{name} port", "fail", f"{host}:{port}: {reason}", remedy)]

    return [name_check, checks.ok(f"{name} port", f"{host}:{port} is open")]


def _through(name: str, host: str, port: int, proxy: Proxy) -> Check:
    """Check the port only: the proxy resolves the name, which this machine's DNS may not know."""
    try:
        proxy.tunnel(host, port, _SECONDS).close()
    except ProxyRefusalError as err:
        remedy = "check proxy and no_proxy in site.toml; whoever runs the proxy sees why in its log"
        return Check(f"{name} port", "fail", f"{host}:{port} through {proxy}: {err}", remedy)
    except OSError as err:
        reason = "no answer" if isinstance(err, TimeoutError) else (err.strerror or "no answer")
        return Check(f"{name} port", "fail", f"the proxy {proxy}: {reason}", "check proxy in site.toml; is it up?")

    return checks.ok(f"{name} port", f"{host}:{port} is open through {proxy}")


def tls(
    address: tuple[str, int],
    ca: Path,
    now: datetime,
    allowed_skew: float,
    *,
    at: str = "",
    proxy: Proxy | None = None,
) -> list[Check]:
    """Name, chain and days left of the gateway's certificate, and the clock against its HTTP `Date` (RFC 9110).

    `at` is the host to connect to, if it differs from the name in the certificate.
    """
    host, port = address
    name = "gateway TLS"

    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError):
        return [Check(name, "fail", "the federation's certificate cannot be read", "fedforget-site join BUNDLE")]

    try:
        with (
            _dialled(at or host, port, proxy) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"])), UTC)
            skew = _skew(secure, host)
    except ssl.SSLCertVerificationError as err:
        rows = [_certificate_problem(name, err, host)]
        # If this clock is wrong, every certificate looks expired: say which of the two it is.
        if err.verify_code in {_EXPIRED, _NOT_YET}:
            rows += _clock_of_anybody((at or host, port), host, allowed_skew, proxy)
        return rows
    except (OSError, ValueError, ProxyRefusalError) as err:
        remedy = "does another program answer there, or a proxy in between?"
        return [Check(name, "fail", f"no TLS with {host}:{port} ({type(err).__name__})", remedy)]

    renew = "the coordinator: fedforget-server certificate renew"
    rows = [
        checks.ok(name, f"{host} shows a certificate of this federation"),
        checks.validity("gateway certificate", until, now, renew),
    ]

    return rows if skew is None else [*rows, checks.clock(skew, allowed_skew)]


def _clock_of_anybody(address: tuple[str, int], host: str, allowed_skew: float, proxy: Proxy | None) -> list[Check]:
    """Compare the clock with any server that answers: for a certificate whose dates, or this clock, may be wrong."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    try:
        with (
            _dialled(*address, proxy) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            skew = _skew(secure, host)
    except (OSError, ValueError, ProxyRefusalError):
        return []

    return [] if skew is None else [checks.clock(skew, allowed_skew)]


def _dialled(host: str, port: int, proxy: Proxy | None) -> socket.socket:
    if proxy is not None and proxy.serves(host, port):
        return proxy.tunnel(host, port, _SECONDS)
    return socket.create_connection((host, port), timeout=_SECONDS)


def _skew(secure: ssl.SSLSocket, host: str) -> float | None:
    """Seconds that this clock is ahead; half a second is added as the `Date` header has whole seconds."""
    before = time.time()
    secure.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < 16_384 and (block := secure.recv(4096)):
        answer += block
    between = (before + time.time()) / 2
    date = re.search(rb"^date:\s*(.+?)\r$", answer, re.IGNORECASE | re.MULTILINE)

    return between - parsedate_to_datetime(date[1].decode("ascii")).timestamp() - 0.5 if date else None


def _certificate_problem(name: str, err: ssl.SSLCertVerificationError, host: str) -> Check:
    if err.verify_code in {_HOSTNAME_MISMATCH, _IP_MISMATCH}:
        return Check(
            name,
            "fail",
            f"the certificate does not name {host}",
            "use a name in the certificate, or have the coordinator add this one to `hosts` and run certificate renew",
        )

    if err.verify_code in {_EXPIRED, _NOT_YET}:
        when = "has expired" if err.verify_code == _EXPIRED else "is not valid yet"
        return Check(
            name,
            "fail",
            f"the certificate {when}",
            "check this machine's clock; if it is right, run certificate renew there",
        )

    return Check(
        name,
        "fail",
        "the certificate is not one of this federation",
        "does another server or a TLS-inspecting proxy answer? Else join again with a new bundle",
    )


def processes(port: int) -> list[Check]:
    """State of each process of the running `up`."""
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{port}/health", timeout=_SECONDS, trust_env=False)
        states = {str(name): str(state) for name, state in answer.json()["processes"].items()}
    except (httpx.HTTPError, ValueError, KeyError, AttributeError):
        return [
            Check("up", "fail", "runs, but its health does not answer", "has [ports] monitor changed since it started?")
        ]

    return [
        checks.ok(f"process {name}", state)
        if state == "up"
        else Check(f"process {name}", "fail", state, f"see logs/{name}.jsonl")
        for name, state in states.items()
    ]


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, an IPv6 host without its brackets."""
    match = _ADDRESS.fullmatch(address)
    return (match[1], int(match[2])) if match else (address, 0)
