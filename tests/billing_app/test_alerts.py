"""Who is told that a budget is used up, once, and what happens when the mail server is in trouble."""

import logging
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection, connections
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from batches_app import reconciliation
from billing_app import alerts
from billing_app.models import Account, BudgetAlert
from billing_app.pricing import Tokens
from tests.books import DECEMBER, NOVEMBER, use
from tests.factories import AccountFactory, PriceFactory

pytestmark = pytest.mark.django_db
LATER = DECEMBER + timedelta(minutes=3)


def _alert(percent: int = 80, email: str = "boss@example.com", **columns: Any) -> BudgetAlert:
    account = AccountFactory(alert_email=email, **columns)
    return BudgetAlert.objects.create(
        account=account,
        month="2026-11",
        percent=percent,
        budget=Decimal("99.5"),
        spent=Decimal("79.600001"),
        created_at=NOVEMBER,
    )


def _sent_at(alert: BudgetAlert) -> Any:
    return BudgetAlert.objects.get(pk=alert.pk).sent_at


class FailingBackend(EmailBackend):
    """Refuses what is for `refused@…`."""

    def send_messages(self, messages: Any) -> int:
        if any("refused@" in recipient for message in messages for recipient in message.to):
            raise OSError("550 no such user")
        return super().send_messages(messages)


class AwayBackend(EmailBackend):
    """Cannot be reached."""

    asked = 0

    def send_messages(self, messages: Any) -> int:
        AwayBackend.asked += 1
        raise ConnectionRefusedError("nobody there")


class WritingBackend(EmailBackend):
    """Another process writes to the database while the mail goes out."""

    def send_messages(self, messages: Any) -> int:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._write).result(timeout=10)
        return super().send_messages(messages)

    @staticmethod
    def _write() -> None:
        Account.objects.create(name="meanwhile")
        connections.close_all()


def _use_backend(settings: Any, backend: type[EmailBackend]) -> None:
    settings.EMAIL_BACKEND = f"{__name__}.{backend.__name__}"
    mail.outbox = []


def test_an_alert_is_mailed_once_and_says_what_matters() -> None:
    alert = _alert(name="acme")
    for _ in range(2):
        alerts.send_due(DECEMBER)
    (message,) = mail.outbox
    assert message.to == ["boss@example.com"]
    assert message.subject == "Account acme has used 80 % of its budget for 2026-11"
    assert "Spent:  79.60 USD\nBudget: 99.5 USD\n" in message.body
    assert _sent_at(alert) == DECEMBER


@pytest.mark.parametrize(
    ("percent", "hard", "sentence"),
    [
        (100, True, "New batches are refused until the next month"),
        (80, True, "At 100 % new batches will be refused"),
        (100, False, "new ones are accepted"),
        (50, False, "new ones are accepted"),
    ],
)
def test_it_says_whether_new_batches_are_refused(percent: int, hard: bool, sentence: str) -> None:
    _alert(percent, budget_is_hard=hard)
    alerts.send_due(DECEMBER)
    assert sentence in mail.outbox[0].body


def test_without_an_address_it_is_logged_alone(caplog: pytest.LogCaptureFixture) -> None:
    alert = _alert(email="", name="acme")
    with caplog.at_level(logging.WARNING, "billing_app.alerts"):
        for _ in range(2):
            alerts.send_due(DECEMBER)
    assert [record.getMessage() for record in caplog.records] == [
        "Account acme has used 80 % of its budget for 2026-11."
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert mail.outbox == []
    assert _sent_at(alert) == DECEMBER


def test_a_crossing_is_told_from_the_charge_to_the_mail() -> None:
    account: Account = AccountFactory(name="acme", monthly_budget=Decimal(1), alert_email="boss@example.com")
    price = PriceFactory(input_price=Decimal(1))
    told = []
    for _ in range(3):
        use(account, price, Tokens(input=800_000))  # 0.4
        alerts.send_due(NOVEMBER)
        told.append([message.subject.split("used ")[1].split(" %")[0] for message in mail.outbox])
    assert told == [[], ["50", "80"], ["50", "80", "100"]]


def test_a_name_with_a_line_break_makes_no_header() -> None:
    _alert(name="acme\nBcc: all@example.com")
    alerts.send_due(DECEMBER)
    assert mail.outbox[0].subject.startswith("Account acme Bcc: all@example.com has used")
    assert mail.outbox[0].bcc == []


def test_an_alert_that_is_refused_stays_and_does_not_keep_the_others(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _use_backend(settings, FailingBackend)
    refused, sound = _alert(email="refused@example.com"), _alert()
    for _ in range(2):  # the first run ends where it fails, the next goes on behind it
        alerts.send_due(DECEMBER)
    assert [message.to for message in mail.outbox] == [["boss@example.com"]]
    assert (_sent_at(refused), _sent_at(sound)) == (None, DECEMBER)
    assert "could not be mailed. It will be tried again." in caplog.text
    Account.objects.filter(pk=refused.account_id).update(alert_email="new@example.com")
    alerts.send_due(LATER)
    assert [message.to for message in mail.outbox] == [["boss@example.com"], ["new@example.com"]]
    assert _sent_at(refused) == LATER


def test_a_mail_server_that_is_away_loses_nothing(settings: Any) -> None:
    """It is tried again after a while, not at every run."""
    _use_backend(settings, AwayBackend)
    waiting, logged = [_alert() for _ in range(3)], _alert(email="")
    AwayBackend.asked = 0
    alerts.send_due(DECEMBER)
    assert AwayBackend.asked == 1  # a run: the reconciler must not wait for each
    for _ in range(3):
        alerts.send_due(DECEMBER)
    assert [_sent_at(alert) for alert in waiting] == [None] * 3
    assert _sent_at(logged) == DECEMBER
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    alerts.send_due(DECEMBER + timedelta(seconds=10))
    assert mail.outbox == []
    alerts.send_due(LATER)
    assert len(mail.outbox) == 3


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_the_mail_server(settings: Any) -> None:
    """SQLite has one writer: it must not be held while a mail goes out."""
    _use_backend(settings, WritingBackend)
    _alert()
    alerts.send_due(DECEMBER)
    assert len(mail.outbox) == 1
    assert Account.objects.filter(name="meanwhile").exists()


def test_nothing_to_send_costs_one_query() -> None:
    with CaptureQueriesContext(connection) as queries:
        alerts.send_due(DECEMBER)
    assert len(queries) == 1


def test_the_reconciler_sends_alerts() -> None:
    assert alerts.send_due in reconciliation.STEPS


@pytest.mark.django_db(transaction=True)
def test_of_senders_at_once_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    alert, found = _alert(), threading.Barrier(4)
    claim = QuerySet.update

    def claim_together(rows: Any, **values: Any) -> int:
        if "claimed_until" in values:
            found.wait(timeout=20)  # all of them have seen that it is free
        return claim(rows, **values)

    monkeypatch.setattr(QuerySet, "update", claim_together)

    def send(_: int) -> None:
        alerts.send_due(DECEMBER)
        connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert len(mail.outbox) == 1
    assert _sent_at(alert) == DECEMBER


# A real server


class _Smtp(socketserver.StreamRequestHandler):
    """As much of SMTP as one message takes."""

    def handle(self) -> None:
        assert isinstance(self.server, SmtpServer)
        self._say("220 here")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"DATA":
                self._say("354 go on")
                self.server.messages.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            self._say("221 bye" if command == b"QUIT" else "550 no" if self._refuses(command) else "250 ok")

    def _refuses(self, command: bytes) -> bool:
        return command == b"RCPT" and getattr(self.server, "refuses", False)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class SmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    refuses = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.messages: list[bytes] = []


@pytest.fixture
def smtp(settings: Any) -> Iterator[SmtpServer]:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_TIMEOUT = 5
    with SmtpServer() as server:
        settings.EMAIL_PORT = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_alert_arrives_at_a_real_mail_server(smtp: SmtpServer, settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = "batchdesk@example.com"
    alert = _alert(name="Müller & Söhne")
    alerts.send_due(DECEMBER)
    (raw,) = smtp.messages
    message = message_from_bytes(raw, policy=policy.default)
    assert message["Subject"].strip() == "Account Müller & Söhne has used 80 % of its budget for 2026-11"
    assert (message["From"], message["To"]) == ("batchdesk@example.com", "boss@example.com")
    assert "Spent:  79.60 USD" in message.get_content()
    assert _sent_at(alert) == DECEMBER


def test_a_real_mail_server_that_refuses_gets_it_again(smtp: SmtpServer) -> None:
    alert = _alert()
    smtp.refuses = True
    alerts.send_due(DECEMBER)
    assert _sent_at(alert) is None
    smtp.refuses = False
    alerts.send_due(LATER)
    assert len(smtp.messages) == 1
    assert _sent_at(alert) == LATER


def test_a_mail_server_that_is_not_there(settings: Any, smtp: SmtpServer) -> None:
    settings.EMAIL_PORT = 1
    alert = _alert()
    alerts.send_due(DECEMBER)
    assert _sent_at(alert) is None
