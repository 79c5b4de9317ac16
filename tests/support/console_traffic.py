"""Everything that a browser page sends and gets: addresses, headers, bodies, and the events of its streams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, Request


@dataclass(slots=True)
class Traffic:
    """What went over the wire of a page, and the sources of the pages that it showed.

    Attributes:
        parts: texts and bodies, each with the address it belongs to.
        events: number of events that came by a stream.
        unread: addresses whose body the browser did not keep.
    """

    parts: list[tuple[str, bytes]] = field(default_factory=list)
    events: int = 0
    unread: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(len(content) for _, content in self.parts)

    def keep(self, address: str, text: str) -> None:
        """Keep a text, such as the source of a page."""
        self.parts.append((address, text.encode()))

    def read_assets(self, page: Page) -> None:
        """Fetch the assets whose bodies the browser took from its cache; their addresses hold their digests."""
        for address in [address for address in self.unread if "/static/" in address]:
            self.parts.append((address, page.request.get(address).body()))
            self.unread.remove(address)

    def naming(self, names: Iterable[str]) -> list[str]:
        """Addresses whose traffic has one of the names in it."""
        wanted = [name.encode() for name in names]
        return sorted({address for address, content in self.parts if any(name in content for name in wanted)})


def recorded(page: Page) -> Traffic:
    """Record all traffic of a page from now on. A stream does not end: its events come from the browser's debugger."""
    traffic = Traffic()

    def asked(request: Request) -> None:
        traffic.keep(request.url, f"{request.method} {request.url}\n{request.headers}")
        if request.post_data_buffer is not None:
            traffic.parts.append((request.url, request.post_data_buffer))

    def answered(request: Request) -> None:
        response = request.response()
        if response is None:
            return
        traffic.keep(request.url, f"{response.status} {response.headers}")
        if 300 <= response.status < 400 or response.status == 204:
            return
        try:
            traffic.parts.append((request.url, response.body()))
        except PlaywrightError:
            traffic.unread.append(request.url)

    def streamed(event: dict[str, str]) -> None:
        traffic.events += 1
        traffic.keep("event stream", repr(event))

    page.on("request", asked)
    page.on("requestfinished", answered)
    debugger = page.context.new_cdp_session(page)
    debugger.send("Network.enable")
    debugger.on("Network.eventSourceMessageReceived", streamed)

    return traffic
