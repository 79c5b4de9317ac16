"""HTTP requests by the proxy or directly, by their host."""

from __future__ import annotations

import ssl

import httpx

from common.platform.proxy import Proxy


class Routes(httpx.BaseTransport):
    """Sends each request through the proxy or directly, by its host.

    Args:
        verify: TLS verification.
    """

    def __init__(self, verify: ssl.SSLContext, proxy: Proxy | None) -> None:
        self._proxy = proxy
        # `trust_env` off: only the settings decide about proxies, no variable of the environment.
        self._direct = httpx.HTTPTransport(verify=verify, trust_env=False)
        self._through = httpx.HTTPTransport(verify=verify, trust_env=False, proxy=proxy.url) if proxy else self._direct

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        through = self._proxy is not None and self._proxy.serves(request.url.host, port)
        return (self._through if through else self._direct).handle_request(request)

    def close(self) -> None:
        """Close all connections."""
        self._direct.close()
        self._through.close()
