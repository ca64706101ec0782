"""What a request may be connected to: the address at the end, however it was come by."""

import json
from contextlib import closing

import psutil
import pycurl
import pytest

from batches_app.upstream.asking import ask_for_models
from batches_app.upstream.client import Answer, CurlClient, Fault, Limits
from batches_app.upstream.retry import Verdict, judge
from batches_app.upstream.transfers import Buffer, Transfer, request_headers
from config.addresses import Policy
from tests.fake_upstream import FakeUpstream

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "cid:1 hello"}]}).encode()
NO_LOOPBACK = Policy(("private", "public"))


def ask(url: str, policy: Policy | None = None) -> Answer:
    client = CurlClient(url=url, api_key="sk-secret", slots=1, limits=Limits(connect_timeout=2), policy=policy)
    with closing(client):
        client.send(1, CHAT, BODY, False)
        answers: list[Answer] = []
        while not answers:
            answers = client.poll(5)
        return answers[0]


def port_of(upstream: FakeUpstream) -> str:
    return str(upstream.url.removesuffix("/v1").rpartition(":")[2])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433"])
def test_what_is_not_allowed_is_not_connected_to(upstream: FakeUpstream, host: str) -> None:
    url = f"http://{host}:{port_of(upstream)}/v1"
    assert ask(url).status == 200
    upstream.control.reset()
    answer = ask(url, NO_LOOPBACK)
    assert (answer.status, answer.fault) == (0, Fault.CONNECT)
    assert answer.message.endswith(" is loopback, and UPSTREAM_ADDRESSES allows only private, public.")
    asked = ask_for_models(url, "sk-secret", Limits(), NO_LOOPBACK)
    assert (asked.fault, asked.message) == (answer.fault, answer.message)
    assert upstream.control.seen()["connections"] == 0


def test_it_is_an_outage_so_that_no_line_is_burnt() -> None:
    answer = ask("http://169.254.169.254/v1")
    assert judge(answer) is Verdict.OUTAGE
    assert answer.message == (
        "The address 169.254.169.254 is never an upstream's: it is link-local, where clouds hand out credentials."
    )


def test_a_name_is_judged_by_what_it_means_at_that_moment(upstream: FakeUpstream) -> None:
    """DNS rebinding: the name server said something else when the URL was looked at."""
    port = port_of(upstream)
    transfer = Transfer(request_headers(None), Limits(connect_timeout=2), Policy(), Buffer(0))
    answers = []
    for address in ("127.0.0.1", "169.254.169.254", "64:ff9b::a9fe:a9fe", "127.0.0.1"):
        entry = f"upstream.example:{port}"
        transfer.curl.setopt(pycurl.RESOLVE, [f"-{entry}", f"{entry}:{address}"])
        transfer.curl.setopt(pycurl.FRESH_CONNECT, True)
        transfer.load(address, f"http://upstream.example:{port}{CHAT}", CHAT, BODY)
        answers.append(performed(transfer))
        transfer.clear()
    transfer.curl.close()
    assert [answer.status for answer in answers] == [200, 0, 0, 200]
    assert all("is link-local" in answer.message for answer in answers[1:3])
    assert upstream.control.calls() == {"1": 2}


def test_of_several_addresses_the_allowed_one_is_taken(upstream: FakeUpstream) -> None:
    port = port_of(upstream)
    transfer = Transfer(request_headers(None), Limits(connect_timeout=2), Policy(), Buffer(0))
    transfer.curl.setopt(pycurl.RESOLVE, [f"upstream.example:{port}:169.254.169.254,127.0.0.1"])
    transfer.load(1, f"http://upstream.example:{port}{CHAT}", CHAT, BODY)
    assert performed(transfer).status == 200
    transfer.curl.close()


def performed(transfer: Transfer) -> Answer:
    try:
        transfer.curl.perform()
        return transfer.answered()
    except pycurl.error as error:
        return transfer.failed(*error.args)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_leads_nowhere(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Through one, the address that is connected to would be the proxy's."""
    monkeypatch.setenv(name, upstream.url.removesuffix("/v1"))
    for url in ("http://169.254.169.254/v1", "https://169.254.169.254/v1"):
        assert ask(url).fault is Fault.CONNECT
    assert upstream.control.seen()["connections"] == 0


def test_a_password_in_the_url_is_not_sent(upstream: FakeUpstream) -> None:
    """The forms refuse it; a row may be older than they are."""
    answer = ask(upstream.url.replace("http://", "http://user:hunter2@"))
    assert (answer.status, answer.fault) == (0, Fault.CONNECT)
    assert "hunter2" not in answer.message
    assert upstream.control.seen()["connections"] == 0


def test_no_descriptor_is_left_behind(upstream: FakeUpstream) -> None:
    upstream.control.set(single_use=True)
    before = open_files()
    for _ in range(20):
        ask(upstream.url)
        ask(upstream.url, NO_LOOPBACK)
    assert open_files() == before


def open_files() -> int:
    return int(psutil.Process().num_fds())
