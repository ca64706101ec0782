"""Lists: keyset pages by row id, newest first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from config.api.errors import BadRequest, InvalidValue
from config.api.fields import integer

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class PageQuery:
    limit: int
    after: str | None
    ascending: bool


def read_page(params: Mapping[str, str], *, default: int, maximum: int) -> PageQuery:
    limit, order = params.get("limit"), params.get("order")
    if order not in (None, "asc", "desc"):
        raise InvalidValue("order", order, "'asc', 'desc'")
    return PageQuery(
        limit=default if limit is None else integer(limit, "limit", range(1, maximum + 1)),
        after=params.get("after") or None,
        ascending=order == "asc",
    )


def paginate(
    rows: QuerySet[Row], query: PageQuery, as_wire: Callable[[Row], dict[str, Any]], *, anchors: QuerySet[Row]
) -> dict[str, Any]:
    """`anchors` are the rows that `after` may name: all that the account sees, whatever the filters leave of them."""
    if query.after is not None:
        anchor = anchors.filter(public_id=query.after).values_list("pk", flat=True).first()
        if anchor is None:
            raise BadRequest(
                f"No such object to list after: '{query.after[:100]}'.", param="after", code="invalid_value"
            )
        rows = rows.filter(**{"pk__gt" if query.ascending else "pk__lt": anchor})
    found = [as_wire(row) for row in rows.order_by("pk" if query.ascending else "-pk")[: query.limit + 1]]
    data = found[: query.limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > query.limit,
    }
