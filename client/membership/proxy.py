"""Which outbound connections of a hospital use its proxy, as configured in `site.toml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from client.settings import SiteSettings
from common.platform.processes.probes import split
from common.platform.proxy import (
    VARIABLES,
    Proxy,
    proxy_of_environment,
    read_proxy,
    variable,
    without_proxies,
)

FROM_ENVIRONMENT = "env"
"""Value of `proxy` in `site.toml` that keeps the proxy's password out of the file."""
_HERE = "localhost,127.0.0.1,::1"


def proxy_of(settings: SiteSettings, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy, or None. The environment is read only if `proxy = "env"`.

    Raises:
        ConfigError: it is not the address of an HTTP proxy.
    """
    url = settings.proxy
    direct = settings.no_proxy
    where = "proxy in site.toml"

    if url == FROM_ENVIRONMENT:
        return proxy_of_environment(environment, direct)

    return read_proxy(url, direct, where) if url else None


def set_and_unused(settings: SiteSettings, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Environment variables that name a proxy which the site does not use."""
    if settings.proxy:
        return ()
    return tuple(
        sorted(n for n, text in environment.items() if n.lower() in VARIABLES and "no_" not in n.lower() and text)
    )


def channel_options(proxy: Proxy | None, address: str) -> list[tuple[str, Any]]:
    """Options of a gRPC channel to `host:port`; the environment has no influence."""
    if proxy is None or not proxy.serves(*split(address)):
        return [("grpc.enable_http_proxy", 0)]
    return [("grpc.http_proxy", proxy.url)]


def supernode_environment(proxy: Proxy | None, gateway: str) -> dict[str, str]:
    """Variables for the SuperNode, whose HTTP client only reads the environment."""
    if proxy is None or not proxy.serves(*split(gateway)):
        # Or it would use a proxy that the environment names and the site does not.
        return {"NO_PROXY": "*", "no_proxy": "*"}
    return {"HTTPS_PROXY": proxy.url, "https_proxy": proxy.url, "NO_PROXY": _HERE, "no_proxy": _HERE}


def own_environment(settings: SiteSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the site's own processes, without proxies that are not configured."""
    environment_without = without_proxies(environment)
    if settings.proxy != FROM_ENVIRONMENT:
        return environment_without
    names = {"HTTPS_PROXY": "https_proxy", "NO_PROXY": "no_proxy"}
    proxies = {name: variable(environment, small) for name, small in names.items()}

    return {**environment_without, **{name: text for name, text in proxies.items() if text}}
