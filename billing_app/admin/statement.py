from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing_app import statements
from billing_app.models import Account
from billing_app.statement_formats import as_csv, as_json

PERMISSION = "billing_app.download_statement"
FORMATS = {"csv": (as_csv, "text/csv; charset=utf-8"), "json": (as_json, "application/json")}


def statement_page(request: HttpRequest, account: Account, file: str) -> HttpResponse:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    month, _, extension = file.partition(".")
    if extension not in FORMATS:
        raise Http404
    render, content_type = FORMATS[extension]
    try:
        text = render(statements.of(account, month, now=timezone.now()))
    except statements.NoStatement as error:
        raise Http404(str(error)) from None
    disposition = f'attachment; filename="statement-{account.pk}-{file}"'
    return HttpResponse(text, content_type, headers={"Content-Disposition": disposition, "Cache-Control": "no-store"})
