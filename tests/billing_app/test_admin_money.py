"""Prices, credit and the ledger in the admin: added, never edited."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing_app import ledger, prices
from billing_app.models import Account, AuditEntry, Balance, LedgerEntry, Price
from tests.factories import PriceFactory
from tests.operators import form_on, signed_in, url

pytestmark = pytest.mark.django_db
ADD_PRICE = url(Price, "add/")
PRICE = {"model_name": "m", "input_price": "0.15", "output_price": "0.6", "why": "list of May"}


def add_price(**given: Any) -> Any:
    operator = signed_in("billing")
    return operator.post(ADD_PRICE, form_on(operator.get(ADD_PRICE), **(PRICE | given)))


def test_a_price_is_added_exactly_and_audited() -> None:
    assert add_price(input_price="0.123456789012", cached_input_price="1000000").status_code == 302
    price, entry = Price.objects.get(model_name="m"), AuditEntry.objects.get()
    assert (str(price.input_price), str(price.cached_input_price)) == ("0.123456789012", "1000000")
    assert prices.current("m", timezone.now()) == price
    assert (entry.action, entry.reason) == ("price.added", "list of May")
    assert entry.changes["input_price"] == [None, "0.123456789012"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("input_price", "-1", "greater than or equal to 0"),
        ("input_price", "x", "Enter a number"),
        ("output_price", "NaN", "Enter a number"),
        ("output_price", "0.1234567890123", "12 decimal places"),
        ("output_price", "1e-99", "12 decimal places"),
        ("cached_input_price", "1000000.5", "at most 1000000"),
        ("output_price", "1e999999", "less than or equal"),
        ("batch_discount", "1.01", "between 0 and 1"),
        ("batch_discount", "-0.5", "greater than or equal to 0"),
        ("currency", "EUR", "All prices of this installation are in USD"),
        ("model_name", "", "required"),
    ],
)
def test_what_is_no_price_is_refused_with_a_sentence(field: str, value: str, sentence: str) -> None:
    answer = add_price(**{field: value})
    assert sentence in answer.content.decode()
    assert not Price.objects.filter(model_name="m").exists()


def test_a_price_is_not_dated_back_once_there_is_one() -> None:
    """It may lie in the future; and the first one of a model may lie in the past."""
    yesterday, tomorrow = (timezone.localtime() + timedelta(days=days) for days in (-1, 1))
    dated = {"effective_from_1": "00:00:00"}
    assert add_price(**dated, effective_from_0=f"{yesterday:%Y-%m-%d}").status_code == 302
    answer = add_price(**dated, effective_from_0=f"{yesterday:%Y-%m-%d}", input_price="9")
    assert "That is in the past, and the model has a price already" in answer.content.decode()
    assert add_price(**dated, effective_from_0=f"{tomorrow:%Y-%m-%d}", input_price="9").status_code == 302
    assert prices.current("m", timezone.now()) == Price.objects.filter(model_name="m").earliest("id")


def test_a_price_is_neither_changed_nor_deleted() -> None:
    price, operator = PriceFactory(), signed_in()
    for page in (f"{price.pk}/change/", f"{price.pk}/delete/"):
        assert operator.post(url(Price, page), PRICE).status_code == 403
    assert operator.get(url(Price, f"{price.pk}/change/")).status_code == 200
    operator.post(url(Price), {"action": "delete_selected", "_selected_action": [price.pk], "post": "yes"})
    assert Price.objects.filter(pk=price.pk).exists()


def test_the_list_says_which_version_is_in_force_and_offers_a_new_one() -> None:
    now = timezone.now()
    past = PriceFactory(effective_from=now - timedelta(days=2))
    current = PriceFactory(effective_from=now - timedelta(days=1), cached_input_price=Decimal("0.01"))
    future = PriceFactory(effective_from=now + timedelta(days=1))
    other = PriceFactory(effective_from=now - timedelta(hours=1), currency="EUR")
    operator = signed_in()
    for state, rows in {"in force": {current}, "future": {future}, "past": {past, other}}.items():
        found = operator.get(url(Price), {"version": state, "q": "m"}).context["cl"].result_list
        assert {price for price in found if price.model_name == "m"} == rows
    page = operator.get(url(Price), {"q": "m", "version": "in force"}).content.decode()
    query = "?model_name=m&amp;input_price=0.15&amp;cached_input_price=0.01&amp;output_price=0.6&amp;batch_discount=0.5"
    assert query in page
    fresh = form_on(operator.get(ADD_PRICE + query.replace("&amp;", "&")))
    assert (fresh["input_price"], fresh["cached_input_price"], fresh["effective_from_0"]) == (["0.15"], ["0.01"], [""])
    assert "New version" not in signed_in("viewer", "vic").get(url(Price)).content.decode()


# Credit


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="acme")


def move(account: Account, what: str = "credit", **given: Any) -> tuple[Any, str, dict[str, Any]]:
    operator = signed_in("billing")
    path = url(Account, f"{account.pk}/{what}/")
    form = form_on(operator.get(path), **given)
    return operator.post(path, form), path, form


def test_credit_is_booked_and_audited(account: Account) -> None:
    answer, _, _ = move(account, amount="50.25", reason="invoice 7")
    assert answer.status_code == 302
    entry, told = LedgerEntry.objects.get(), AuditEntry.objects.get()
    assert (entry.kind, entry.amount, entry.reason, entry.made_by) == ("top_up", Decimal("50.25"), "invoice 7", "olga")
    assert Balance.objects.get().available == Decimal("50.25")
    assert (told.action, told.actor, told.account, told.reason) == ("credit.added", "olga", "acme", "invoice 7")
    assert told.changes == {"amount": [None, "50.25"], "available": ["0", "50.25"]}


def test_a_form_that_is_sent_twice_books_once(account: Account) -> None:
    _, path, form = move(account, amount="50", reason="invoice 7")
    again = signed_in("billing", "bo").post(path, form, follow=True)
    assert "Nothing was booked twice" in again.content.decode()
    assert (LedgerEntry.objects.count(), AuditEntry.objects.count()) == (1, 1)
    assert Balance.objects.get().available == Decimal(50)


@pytest.mark.parametrize(
    ("what", "given", "sentence"),
    [
        ("credit", {"amount": "5", "reason": "  "}, "This field is required"),
        ("credit", {"amount": "0", "reason": "x"}, "moves nothing"),
        ("credit", {"amount": "-5", "reason": "x"}, "greater than or equal to 0"),
        ("credit", {"amount": "NaN", "reason": "x"}, "Enter a number"),
        ("credit", {"amount": "1e99", "reason": "x"}, "less than or equal"),
        ("credit", {"amount": "0.0000000000001", "reason": "x"}, "12 decimal places"),
        ("credit", {"amount": "5", "reason": "x", "once": "y"}, "Enter a valid UUID"),
        ("adjust", {"amount": "5", "reason": ""}, "This field is required"),
        ("adjust", {"amount": "0", "reason": "x"}, "moves nothing"),
    ],
)
def test_what_cannot_be_booked_is_refused(account: Account, what: str, given: dict[str, str], sentence: str) -> None:
    answer, _, _ = move(account, what, **given)
    assert sentence in answer.content.decode()
    assert (LedgerEntry.objects.count(), AuditEntry.objects.count()) == (0, 0)


def test_an_adjustment_takes_no_more_than_a_prepaid_account_has(account: Account) -> None:
    ledger.top_up(account.pk, Decimal(3), key="k", reason="r", made_by="x", now=timezone.now())
    ledger.set_prepaid(account.pk, True)
    answer, _, _ = move(account, "adjust", amount="-3.01", reason="mistake")
    assert "only 3 USD is available" in answer.content.decode()
    assert not AuditEntry.objects.exists()
    assert move(account, "adjust", amount="-2.5", reason="mistake")[0].status_code == 302
    told = AuditEntry.objects.get()
    assert (told.action, told.changes["available"]) == ("adjustment.made", ["3", "0.5"])


# The ledger


def test_the_ledger_is_found_by_account_kind_month_and_batch(account: Account) -> None:
    now = timezone.now()
    ledger.top_up(account.pk, Decimal(3), key="k", reason="r", made_by="x", now=now)
    ledger.set_prepaid(account.pk, True)
    ledger.place_hold(account.pk, "batch_1", Decimal("0.0000001"), now=now)
    similar = Account.objects.create(name="acme-test")
    ledger.top_up(similar.pk, Decimal(3), key="l", reason="r", made_by="x", now=now)
    operator = signed_in("viewer")

    def found(**query: str) -> int:
        return len(operator.get(url(LedgerEntry), query).context["cl"].result_list)

    month = LedgerEntry.objects.latest("id").month
    assert [found(), found(account="acme"), found(account="acm"), found(account="x")] == [3, 2, 3, 0]
    assert [found(kind__exact="hold_placed"), found(q="batch_1"), found(q="batch"), found(month=month)] == [1, 1, 0, 3]
    assert [found(month="2001-01"), found(model="x"), found(account="acme", kind__exact="top_up")] == [0, 0, 1]
    page = operator.get(url(LedgerEntry), {"account": "acme"}).content.decode()
    assert "2.9999999" in page
    assert "0.000000100000" in page


def test_a_text_filter_keeps_the_other_filters(account: Account) -> None:
    page = signed_in("viewer").get(url(LedgerEntry), {"account": "acme", "kind__exact": "usage", "q": "b"})
    html = page.content.decode()
    assert '<input type="hidden" name="kind__exact" value="usage">' in html
    assert '<input type="hidden" name="q" value="b">' in html
    assert 'name="account" value="acme"' in html


@pytest.mark.parametrize("amount", ["1e999999", "-1e999999", "1e-999999", "NaN", "Infinity", "much"])
def test_a_list_is_not_broken_by_what_somebody_takes_for_an_amount(amount: str) -> None:
    """In the address of a list, where Django's admin allows to compare any column."""
    ledger.top_up(Account.objects.create(name="a").pk, Decimal(5), key="k", reason="r", made_by="o", now=timezone.now())
    answer = signed_in().get(url(LedgerEntry), {"amount__gt": amount})
    assert answer.status_code == 302
    assert answer.headers["Location"].endswith("?e=1")
    assert signed_in().get(url(LedgerEntry), {"amount__gt": "0.01"}).status_code == 200
