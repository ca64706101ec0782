from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client

from batches_app.models import Batch, Checkpoint, Lane, ServedModel, Shard
from billing_app.models import Account, APIKey, LedgerEntry, Price
from files_app.models import StoredFile
from tests.tenants import Tenant

READ_ONLY = [APIKey, LedgerEntry, StoredFile, Batch, Lane, Shard, Checkpoint]
SHOWN = [*READ_ONLY, Account, Price, ServedModel]


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("op", password="op"))
    return client


def url(model: Any, page: str) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/{page}"


@pytest.mark.parametrize("model", SHOWN)
def test_lists_render(operator: Client, model: Any) -> None:
    """Every list opens, also with a search."""
    tenant = Tenant("acme")
    tenant.has_batch()
    tenant.has_file()
    assert operator.get(url(model, "")).status_code == 200
    if admin.site._registry[model].search_fields:
        assert operator.get(url(model, ""), {"q": "x"}).status_code == 200


@pytest.mark.parametrize("model", READ_ONLY)
def test_read_only(operator: Client, model: Any) -> None:
    """What the service writes is neither added nor changed nor deleted by hand."""
    request: Any = operator.get("/admin/").wsgi_request
    shown = admin.site._registry[model]
    assert not shown.has_add_permission(request)
    assert not shown.has_change_permission(request)
    assert not shown.has_delete_permission(request)
    assert shown.has_view_permission(request)


def test_details_render(operator: Client) -> None:
    tenant = Tenant("acme")
    for row in (tenant.account, tenant.api_key, tenant.has_batch(), tenant.has_file()):
        page = operator.get(url(type(row), f"{row.pk}/change/"))
        assert page.status_code == 200
        assert tenant.api_key.key_hash.encode() not in page.content


def test_revoke(operator: Client) -> None:
    tenant = Tenant("acme")
    operator.post(url(APIKey, ""), {"action": "revoke", "_selected_action": [tenant.api_key.pk]})
    tenant.api_key.refresh_from_db()
    assert tenant.api_key.revoked_at is not None


def test_cancel(operator: Client) -> None:
    """B8 from the admin: what runs is cancelled, what has ended stays."""
    tenant = Tenant("acme")
    running, done = tenant.has_batch(status="in_progress"), tenant.has_batch(status="completed")
    response = operator.post(
        url(Batch, ""), {"action": "cancel", "_selected_action": [running.pk, done.pk]}, follow=True
    )
    assert "is completed already" in response.content.decode()
    assert [Batch.objects.get(pk=batch.pk).status for batch in (running, done)] == ["cancelling", "completed"]


@pytest.mark.django_db
def test_actions_need_permission() -> None:
    """A staff user who may only look can neither cancel nor revoke."""
    tenant = Tenant("acme")
    viewer = User.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    batch = tenant.has_batch()
    client.post(url(Batch, ""), {"action": "cancel", "_selected_action": [batch.pk]})
    client.post(url(APIKey, ""), {"action": "revoke", "_selected_action": [tenant.api_key.pk]})
    batch.refresh_from_db()
    tenant.api_key.refresh_from_db()
    assert (batch.status, tenant.api_key.revoked_at) == ("validating", None)


def test_model_and_its_lanes(operator: Client) -> None:
    """Another concurrency cuts the model's lanes anew."""
    form = {
        "name": "m",
        "endpoints": '["/v1/chat/completions"]',
        "upstream_url": "http://x/v1",
        "max_concurrency": "32",
        "is_enabled": "on",
    }
    operator.post(url(ServedModel, "add/"), form)
    model = ServedModel.objects.get(name="m")
    assert sum(lane.permits for lane in model.lanes.all()) == 32
    operator.post(url(ServedModel, f"{model.pk}/change/"), form | {"max_concurrency": "600"})
    assert sum(lane.permits for lane in model.lanes.all()) == 600


def test_price(operator: Client) -> None:
    """Prices are added and kept exactly; one that is no number is refused, not an error of ours."""
    form = {
        "model_name": "m",
        "input_price": "0.123456789012345678",
        "output_price": "x",
        "batch_discount": "0.5",
        "currency": "USD",
        "effective_from_0": "2026-11-01",
        "effective_from_1": "00:00:00",
    }
    assert operator.post(url(Price, "add/"), form).status_code == 200
    assert operator.post(url(Price, "add/"), form | {"output_price": "2"}).status_code == 302
    assert str(Price.objects.get(model_name="m").input_price) == "0.123456789012345678"
