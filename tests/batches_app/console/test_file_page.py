"""A file's page, and deleting it knowing what that does."""

import re
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from billing_app.models import AuditEntry, StorageUse
from config.api import ids
from files_app import blobs, retention
from files_app.models import StoredFile
from tests.operators import form_on, signed_in
from tests.tenants import Tenant

pytestmark = pytest.mark.django_db
BATCH = "batch_" + "0123456789abcdef" * 2


@pytest.fixture
def acme() -> Tenant:
    return Tenant("acme")


@pytest.fixture
def ada() -> Client:
    return signed_in(name="ada")


def address(file: StoredFile, page: str = "") -> str:
    return f"/console/files/{file.public_id}{page}"


def text(answer: object) -> str:
    return re.sub(r"\s+", " ", unescape(strip_tags(answer.content.decode())))  # type: ignore[attr-defined]


def delete(client: Client, file: StoredFile, reason: str = "asked for by mail") -> str:
    form = form_on(client.get(address(file, "/delete")), reason=reason)
    return text(client.post(address(file, "/delete"), form, follow=True))


def kept(tenant: Tenant) -> tuple[int, int]:
    use = StorageUse.objects.get(account=tenant.account)
    return use.files, use.bytes


def test_its_page_has_its_facts_and_the_batches_that_used_it(acme: Tenant) -> None:
    file = acme.has_file(b"x" * 5000, filename="questions.jsonl")
    batch = acme.has_batch(input_file_id=file.public_id, name="March", total=10, completed=4)
    Tenant("globex").has_batch(input_file_id=file.public_id, name="not theirs")
    page = signed_in("viewer").get(address(file))
    for fact in (
        "questions.jsonl",
        "acme",
        "4.9 KB",
        file.sha256,
        "1 batch",
        "March",
        batch.public_id,
    ):
        assert fact in text(page), fact
    assert "not theirs" not in text(page)


def test_a_result_shows_the_batch_that_made_it(acme: Tenant) -> None:
    acme.has_batch(public_id=BATCH, name="March")
    file = acme.has_result(b"{}", filename=f"{BATCH}_output.jsonl")
    page = text(signed_in("viewer").get(address(file)))
    assert "The batch that made it" in page
    assert "March" in page


def test_actions_are_for_those_who_may(acme: Tenant, ada: Client) -> None:
    file = acme.has_file()
    for client, sees in ((ada, True), (signed_in("operator"), False)):
        page = client.get(address(file)).content.decode()
        assert (address(file, "/download") in page) is sees
        assert (address(file, "/delete") in page) is sees
    assert signed_in("operator").get(address(file, "/delete")).status_code == 403
    assert signed_in("operator").post(address(file, "/delete"), {"reason": "x"}).status_code == 403
    assert StoredFile.objects.get().deleted_at is None


def test_a_file_that_is_not_there_is_not_found(ada: Client) -> None:
    for page in ("", "/delete", "/download"):
        assert ada.get(f"/console/files/{ids.input_file_id()}{page}").status_code == 404


# Deleting


def test_before_it_is_deleted_it_says_what_that_does(acme: Tenant, ada: Client) -> None:
    file = acme.has_file(b"x" * 3_435_973)
    for number in range(12):
        batch = acme.has_batch(input_file_id=file.public_id, status="in_progress" if number == 0 else "completed")
        if number == 0:
            retention.hold(file, batch.public_id)
    page = text(ada.get(address(file, "/delete")))
    for said in (
        "12 batches used it.",
        "1 batch is under way: it goes on undisturbed, and keeps the bytes until it ends.",
        "Failed lines of these batches can be retried no more.",
        "It frees one file of acme's quota at once, and 3.3 MB when the bytes are removed.",
        "the tenant cannot get it back",
    ):
        assert said in page, said
    assert StoredFile.objects.get().deleted_at is None  # to look at it changes nothing


def test_of_a_file_that_nothing_needs_the_bytes_are_freed_at_once(acme: Tenant, ada: Client) -> None:
    page = text(ada.get(address(acme.has_file(b"xx"), "/delete")))
    assert "No batch has used it." in page
    assert "It frees one file and 2 bytes of acme's quota." in page
    assert "under way" not in page


def test_of_a_result_it_says_that_its_tenant_loses_it(acme: Tenant, ada: Client) -> None:
    page = text(ada.get(address(acme.has_result(b"{}", filename=f"{BATCH}_output.jsonl"), "/delete")))
    assert "acme can download these results no more. What they cost stays billed." in page


def test_a_deletion_wants_to_know_why(acme: Tenant, ada: Client) -> None:
    file = acme.has_file()
    for reason in ("", "   ", "x" * 501, "a\0b"):
        answer = ada.post(address(file, "/delete"), {"reason": reason})
        assert answer.status_code == 400, reason
        assert 'id="reason-errors"' in answer.content.decode()
    assert StoredFile.objects.get().deleted_at is None
    assert AuditEntry.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_it_is_gone_with_its_bytes_and_its_quota_and_an_entry_says_who_and_why(acme: Tenant, ada: Client) -> None:
    file = acme.has_file(b"xxx")
    assert kept(acme) == (1, 3)
    assert f"{file.public_id} is deleted." in delete(ada, file)
    assert not StoredFile.objects.exists()
    with pytest.raises(FileNotFoundError):
        blobs.read(file.blob)
    assert kept(acme) == (0, 0)
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.account, entry.reason) == (
        "ada",
        "file.deleted",
        "acme",
        "asked for by mail",
    )
    assert file.public_id in entry.target
    assert entry.changes["bytes"] == [3, None]
    assert acme.get(f"files/{file.public_id}").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_batch_under_way_keeps_the_bytes_until_it_ends(acme: Tenant, ada: Client) -> None:
    file = acme.has_file(b"xxx")
    batch = acme.has_batch(input_file_id=file.public_id, status="in_progress")
    retention.hold(file, batch.public_id)
    page = delete(ada, file)
    assert "its tenant has it no more" in page
    assert "Its bytes stay until the batch that needs them has ended." in page
    assert kept(acme) == (0, 3)
    assert blobs.read_range(file.blob, 0, 9) == b"xxx"
    retention.release(batch.public_id)
    assert kept(acme) == (0, 0)
    assert not StoredFile.objects.exists()


def test_what_is_deleted_already_is_not_deleted_again(acme: Tenant, ada: Client) -> None:
    file = acme.has_file()
    retention.hold(file, "batch_1")
    retention.delete_file(file, now=timezone.now())
    for answer in (
        ada.get(address(file, "/delete"), follow=True),
        ada.post(address(file, "/delete"), {"reason": "x"}, follow=True),
    ):
        assert f"{file.public_id} was deleted before." in text(answer)
    page = ada.get(address(file)).content.decode()
    assert address(file, "/delete") not in page
    assert address(file, "/download") not in page
    assert AuditEntry.objects.count() == 0


def test_of_two_who_delete_it_at_once_one_is_told_that_it_was_deleted_before(
    acme: Tenant, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there is one entry."""
    file = acme.has_file()
    monkeypatch.setattr(retention, "delete_file", lambda *_, **__: False)
    assert "was deleted before" in delete(ada, file)
    assert AuditEntry.objects.count() == 0


def test_its_page_and_the_one_that_asks_take_few_queries(
    acme: Tenant, ada: Client, django_assert_max_num_queries: object
) -> None:
    file = acme.has_file()
    for number in range(25):
        retention.hold(file, acme.has_batch(input_file_id=file.public_id, name=str(number)).public_id)
    for page in ("", "/delete"):
        with django_assert_max_num_queries(12):  # type: ignore[operator]  # pytest-django's fixture
            assert ada.get(address(file, page)).status_code == 200
    assert text(ada.get(address(file))).count("batch_") >= 20
