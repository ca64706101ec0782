"""Tables as CSV: written while they are read, and harmless in a spreadsheet."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from io import StringIO

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

CHUNK = 16 * 1024  # characters
# Without it Excel reads Chinese as the old code page of the machine.
_MARK = "\ufeff"
# A spreadsheet takes a text that begins so for a formula, and runs it; the wide = + - @ are those of East Asia.
_FORMULA = re.compile("[\t\r\n]|\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def stream(filename: str, header: Sequence[object], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """The rows are made while they are sent: the middleware that knows the viewer's zone and language is done then."""
    headers = {"Content-Disposition": content_disposition_header(True, filename), "Cache-Control": "no-store"}
    return StreamingHttpResponse(_chunks(header, rows), content_type="text/csv; charset=utf-8", headers=headers)


def _chunks(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    out = StringIO()
    out.write(_MARK)
    writer = csv.writer(out)
    writer.writerow(map(_cell, header))
    for row in rows:
        writer.writerow(map(_cell, row))
        if out.tell() >= CHUNK:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")  # a spreadsheet makes a float of 1E-12
    return harmless("" if value is None else str(value))


def harmless(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
