"""The console's pages, each at an address where there is something to see."""

from tests.browser.installation import Installation

_SAMPLES = """
from batches_app.models import Batch, Operation, ServedModel
from billing_app.models import Balance
from files_app.models import StoredFile
def newest(**facts): return Batch.objects.filter(**facts).latest("pk").public_id
running = Batch.objects.filter(status="in_progress")
busy = running.filter(model__paused_at=None, model__lanes__in_flight__gt=0, shards__state="running")
real = Batch.objects.filter(endpoint="/v1/chat/ds-test", parent=None, failed__gt=0).latest("pk")
print(json.dumps({
    "real": real.public_id,
    "input": real.input_file_id,
    "retry": newest(parent__isnull=False),
    "running": (busy if busy.exists() else running).order_by("-failed")[0].public_id,
    "failed": newest(status="failed"),
    "expired": newest(status="expired"),
    "account": Balance.objects.filter(is_prepaid=True).first().account_id,
    "model": ServedModel.objects.earliest("pk").pk,
    "operation": Operation.objects.filter(kind="cancel").earliest("pk").pk,
    "retrying": Operation.objects.filter(kind="retry").latest("pk").pk,
}))
"""
# Of a seeded installation. Routes by their names, with what is added where one is shown more than once.
ADDRESSES = {
    "overview": "",
    "batches": "batches",
    "batches filtered": "batches?status=completed&has_errors=yes&sort=deadline",
    "batches none": "batches?q=nothing+like+it",
    "batch": "batches/{running}",
    "batch done": "batches/{real}",
    "batch failed": "batches/{failed}",
    "batch expired": "batches/{expired}",
    "batch retry": "batches/{retry}",
    "lines": "batches/{real}/lines",
    "lines all": "batches/{real}/lines?kind=all",
    "lines running": "batches/{running}/lines?kind=succeeded",
    "line": "batches/{real}/lines/e0",
    "operations": "operations",
    "operation": "operations/{operation}",
    "operation retry": "operations/{retrying}",
    "files": "files",
    "file": "files/{input}",
    "file delete": "files/{input}/delete",
    "accounts": "accounts",
    "account": "accounts/{account}",
    "models": "models",
    "usage": "usage",
    "workers": "workers",
    "audit": "audit",
}
PUBLIC = {"login": "login"}


def addresses(installation: Installation) -> dict[str, str]:
    samples = installation.ask(_SAMPLES)
    return {name: f"/console/{path.format(**samples)}" for name, path in (ADDRESSES | PUBLIC).items()}
