"""A statement as text, CSV and JSON."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from io import StringIO
from typing import Any

from billing_app.statements import CreditLine, Statement, UsageLine
from config.console.csv import harmless

COLUMNS = (
    *("account_id", "month", "closed", "currency", "line", "date", "batch_id", "model", "requests"),
    *("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"),
    *("list_amount", "discount", "charged", "amount", "balance", "reason"),
)
ROUNDING = "Rounding"
TABLE = ("Batch", "Model", "Requests", "Input", "Cached", "Output", "Reasoning", "List", "Discount", "Charged")


def as_json(statement: Statement) -> str:
    """Amounts are strings: a reader that makes floats of numbers would bend them."""
    body = {
        "object": "statement",
        "account_id": statement.account_id,
        "month": statement.month,
        "currency": statement.currency,
        "closed": statement.closed,
        "opening_balance": str(statement.opening),
        "usage": [_usage_object(line) for line in statement.usage],
        "credits": [_credit_object(line) for line in statement.credits],
        "rounding": str(statement.rounding),
        "totals": _totals_object(statement),
        "closing_balance": str(statement.closing),
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def as_csv(statement: Statement) -> str:
    """One table: what is under `amount` leads from the opening to the closing balance. So it has no row of totals."""
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    common = {
        "account_id": statement.account_id,
        "month": statement.month,
        "closed": str(statement.closed).lower(),
        "currency": statement.currency,
    }
    writer.writerows(common | row for row in _rows(statement))
    return out.getvalue()


def as_text(statement: Statement, account_name: str) -> str:
    totals = statement.totals
    heading = f"{account_name}: {statement.month}, in {statement.currency}"
    state = "closed" if statement.closed else "still open: amounts so far"
    counts = (str(totals.requests), *_counts(totals.tokens))
    total = ("Total", "", *counts, *map(str, (totals.list_amount, totals.discount, totals.charged)))
    usage = [TABLE, *map(_usage_row, statement.usage), total] if statement.usage else []
    moves = [("Opening balance", "", str(statement.opening))]
    moves += [("Usage", "", str(-totals.charged))] if statement.usage else []
    moves += [(_title(line), line.reason, str(line.amount)) for line in statement.credits]
    moves += [(ROUNDING, "", str(statement.rounding))] if statement.rounding else []
    moves += [("Closing balance", "", str(statement.closing))]
    tables = [_table(rows, left) for rows, left in ((usage, 2), (moves, 2)) if rows]
    return "\n\n".join([f"{heading} ({state})", *tables]) + "\n"


def _rows(statement: Statement) -> Iterator[dict[str, Any]]:
    yield {"line": "opening", "balance": statement.opening}
    for used in statement.usage:
        yield {
            "line": "usage",
            **_usage_object(used),
            "batch_id": harmless(used.batch_id),
            "model": harmless(used.model),
            "amount": -used.charged,
        }
    for credit in statement.credits:
        yield {
            "line": credit.kind,
            "date": credit.date.isoformat(),
            "batch_id": harmless(credit.batch_id),
            "reason": harmless(credit.reason),
            "amount": credit.amount,
        }
    if statement.rounding:
        yield {"line": "rounding", "amount": statement.rounding, "reason": ROUNDING}
    yield {"line": "closing", "balance": statement.closing}


def _usage_object(line: UsageLine) -> dict[str, Any]:
    return {
        "batch_id": line.batch_id,
        "model": line.model,
        "requests": line.requests,
        **{f"{kind}_tokens": count for kind, count in asdict(line.tokens).items()},
        "list_amount": str(line.list_amount),
        "discount": str(line.discount),
        "charged": str(line.charged),
    }


def _credit_object(line: CreditLine) -> dict[str, Any]:
    return {
        "date": line.date.isoformat(),
        "kind": line.kind,
        "batch_id": line.batch_id or None,
        "reason": line.reason,
        "amount": str(line.amount),
    }


def _totals_object(statement: Statement) -> dict[str, Any]:
    totals = asdict(statement.totals)
    tokens = {f"{kind}_tokens": count for kind, count in totals.pop("tokens").items()}
    amounts = {name: str(value) for name, value in totals.items() if isinstance(value, Decimal)}
    return {"requests": totals["requests"], **tokens, **amounts}


def _usage_row(line: UsageLine) -> tuple[str, ...]:
    values = _usage_object(line).values()
    return tuple(map(str, values))


def _counts(tokens: Any) -> tuple[str, ...]:
    return tuple(str(count) for count in asdict(tokens).values())


def _title(line: CreditLine) -> str:
    return f"{line.date} {line.kind.replace('_', '-')}"


def _table(rows: Sequence[Sequence[str]], left: int) -> str:
    """The first `left` columns are words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
