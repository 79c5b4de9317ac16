"""Tables by pages: which part of how many rows, in which order, and the addresses of the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from common.platform.console.page import Visit

PAGE_SIZE = 50
_MOST_PAGES = 1_000_000


@dataclass(frozen=True, slots=True)
class View:
    """What a table shows.

    Attributes:
        path: address of the page.
        sort: name of the column by which it is ordered.
        is_descending: whether the largest comes first.
        number: of the page, from 1.
        filters: what was asked for, by parameter, without empty values.
        total: rows on all pages.
    """

    path: str
    sort: str
    is_descending: bool
    number: int
    filters: dict[str, str]
    total: int = 0
    size: int = PAGE_SIZE

    @property
    def start(self) -> int:
        """Rows before this page."""
        return (self.number - 1) * self.size

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return max(1, -(-self.total // self.size))

    def of(self, total: int) -> View:
        """The view of a table with so many rows; a page behind the last becomes the last."""
        last = max(1, -(-total // self.size))
        return View(self.path, self.sort, self.is_descending, min(self.number, last), self.filters, total, self.size)

    def page(self, number: int) -> str:
        """The address of another page."""
        return self._address(self.sort, self.is_descending, number)

    def sorted_by(self, column: str) -> str:
        """The address of the same table, ordered by a column; by the present one, the other way round."""
        return self._address(column, not self.is_descending if column == self.sort else False, 1)

    def _address(self, sort: str, is_descending: bool, number: int) -> str:
        values = {**self.filters, "sort": f"-{sort}" if is_descending else sort, "page": str(number)}
        return f"{self.path}?{urlencode(values)}"


def view_of(visit: Visit, columns: Collection[str], usual: str, filters: Collection[str] = ()) -> View:
    """The view that an address asks for; an unknown column or a wrong page number gives the usual ones.

    Args:
        columns: by which the table can be ordered.
        usual: column of the usual order, with `-` in front for descending.
        filters: parameters that narrow the table.
    """
    order = visit.query("sort", usual)
    if order.removeprefix("-") not in columns:
        order = usual
    number = visit.query("page", "1")
    is_number = number.isascii() and number.isdecimal() and 0 < int(number[:9]) < _MOST_PAGES
    values = {name: visit.query(name) for name in filters}

    return View(
        path=visit.request.url.path,
        sort=order.removeprefix("-"),
        is_descending=order.startswith("-"),
        number=int(number[:9]) if is_number else 1,
        filters={name: value for name, value in values.items() if value},
    )
