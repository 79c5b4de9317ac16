"""The npm package `oidc-provider` on loopback: a certified OpenID provider whose login page takes any name."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "oidc-provider@9"
CLIENT = "fedforget"
SECRET = "a-secret-of-this-test-alone-0123456789"
_SCRIPT = """
import Provider from 'oidc-provider';
const [port, redirects, groups] = [process.argv[2], JSON.parse(process.argv[3]), JSON.parse(process.argv[4])];
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: Object.entries(redirects).map(([client, redirect]) =>
    ({ client_id: client, client_secret: process.env.CLIENT_SECRET, redirect_uris: [redirect] })),
  claims: { openid: ['sub'], profile: ['name', 'groups'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['only for this test'] },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: id, groups: groups[id] || [] }) }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
"""


@dataclass(frozen=True, slots=True)
class NpmProvider:
    """A running provider."""

    issuer: str


def has_npm() -> bool:
    """Whether it can be installed."""
    return shutil.which("npm") is not None and shutil.which("node") is not None


@contextmanager
def npm_provider(folder: Path, redirects: Mapping[str, str], groups: Mapping[str, list[str]]) -> Iterator[NpmProvider]:
    """Install and run the provider.

    Args:
        redirects: address to which it sends people back, by client.
        groups: those of people, by the name that they type.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE],
        check=True,
        capture_output=True,
        timeout=180,
    )
    (folder / "provider.mjs").write_text(_SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["node", "provider.mjs", str(port), json.dumps(dict(redirects)), json.dumps(dict(groups))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "CLIENT_SECRET": SECRET},
    )

    try:
        assert process.stdout is not None
        while b"ready" not in (line := process.stdout.readline()):
            assert line, "the provider ended"
        yield NpmProvider(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
