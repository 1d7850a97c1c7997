"""Pages of the lists of ``/api/…``, each of which is an array of objects.

``limit`` is the number of items of a page, and ``offset`` that of the items before it. A Link field (RFC
8288) of relation ``next`` names the next page, X-Offset the position of this one, and X-Total-Count the
number of all items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

from origin.responses.refusal import RefusalError
from packager.library.catalogue import MAX_PAGE_ITEMS, PAGE_ITEMS

Item = TypeVar("Item")

MOST_OFFSET_DIGITS = 9


@dataclass(frozen=True, slots=True)
class ListPage:
    """The page of a list that a request asks for.

    Attributes:
        offset: the number of items before it.
        limit: the largest number of items on the page.
        repeated: the parameters of the request that are those of the next page, too.
    """

    offset: int
    limit: int
    repeated: Mapping[str, str]

    @classmethod
    def of(cls, query: QueryParams, *repeated: str) -> ListPage:
        """Parse the parameters of a page.

        Args:
            repeated: names of the list's own parameters.

        Raises:
            RefusalError: a parameter is malformed.
        """
        names = (*repeated, "limit")
        # Neither the token nor the keys of the request: answers repeat no secret.
        own = {name: query[name] for name in names if name in query}
        return cls(offset_of(query), limit_of(query), own)

    def of_items(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of the page, of all."""
        return items[self.offset : self.offset + self.limit]

    def fields(self, address: str, shown: int, total: int) -> dict[str, str]:
        """Return the header fields of the page.

        Args:
            address: of the list, with the path of the request's token.
            shown: the number of items on the page.
            total: the number of all items.
        """
        following = self.offset + shown
        fields = {"x-total-count": str(total), "x-offset": str(self.offset)}
        if shown and following < total:
            fields |= self.next(address, {"offset": str(following)})
        return fields

    def next(self, address: str, position: Mapping[str, str]) -> dict[str, str]:
        """Return the field that names the next page, which begins at a position."""
        query = urlencode({**self.repeated, **position}, quote_via=quote)
        return {"link": f'<{address}?{query}>; rel="next"'}


def limit_of(query: QueryParams) -> int:
    """Parse the most items of a page.

    Raises:
        RefusalError: the parameter is no number in range.
    """
    text = query.get("limit", str(PAGE_ITEMS))
    if not (_is_number(text, 4) and 1 <= int(text) <= MAX_PAGE_ITEMS):
        raise RefusalError(400, f"limit: a whole number from 1 to {MAX_PAGE_ITEMS}")
    return int(text)


def is_descending(query: QueryParams) -> bool:
    """Parse the order of a list.

    Raises:
        RefusalError: the parameter is neither of the two orders.
    """
    order = query.get("order", "asc")
    if order not in ("asc", "desc"):
        raise RefusalError(400, "order: asc or desc")
    return order == "desc"


def offset_of(query: QueryParams) -> int:
    """Parse the number of items before a page.

    Raises:
        RefusalError: the parameter is no number in range.
    """
    text = query.get("offset", "0")
    if not _is_number(text, MOST_OFFSET_DIGITS):
        raise RefusalError(400, "offset: a whole number of items")
    return int(text)


def _is_number(text: str, most_digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= most_digits
