from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from billing_app import audit, statements
from billing_app.models import Account
from billing_app.statement_formats import as_csv, as_json
from config.console.access import page

PERMISSION = "billing_app.download_statement"
FORMATS = {"csv": (as_csv, "text/csv; charset=utf-8"), "json": (as_json, "application/json")}


@page(PERMISSION)
def download(request: HttpRequest, pk: int, file: str) -> HttpResponse:
    """`file`: the month and the format, 2026-11.csv."""
    month, _, extension = file.partition(".")
    if extension not in FORMATS:
        raise Http404
    account = get_object_or_404(Account, pk=pk)
    render, content_type = FORMATS[extension]
    try:
        text = render(statements.of(account, month, now=timezone.now()))
    except statements.NoStatement as error:
        raise Http404(str(error)) from None
    changes = {"file": (None, file)}
    audit.record(
        **audit.by(request), action="statement.downloaded", target=account, account=account.name, changes=changes
    )
    disposition = f'attachment; filename="statement-{account.pk}-{file}"'
    return HttpResponse(text, content_type, headers={"Content-Disposition": disposition, "Cache-Control": "no-store"})
