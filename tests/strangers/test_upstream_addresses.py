"""An operator forbids the address of a model that has work: in the real installation, with real processes."""

import time
from pathlib import Path

from tests.fake_upstream import FakeUpstream
from tests.stack import Stack, assert_whole, chat_input, start_batch, wait_for

REASON = "The address 127.0.0.1 is loopback, and UPSTREAM_ADDRESSES allows only public"
ALLOWED = "public,127.0.0.0/8"


def test_a_model_whose_address_is_not_allowed_waits_and_says_why(tmp_path: Path, upstream: FakeUpstream) -> None:
    """No line is burnt, nothing is connected to, and once it is allowed again the batch goes on by itself."""
    with Stack(tmp_path, UPSTREAM_ADDRESSES="public") as stack:
        client = stack.new_client()
        assert REASON in stack.refused("set_model", "m", "--upstream-url", upstream.url, *REST)
        stack.environment["UPSTREAM_ADDRESSES"] = ALLOWED  # of what starts from here on
        stack.serve(upstream.url)
        batch = start_batch(client, chat_input(20))
        until_it_says(stack, f"/console/batches/{batch.id}", REASON)
        until_it_says(stack, "/console/models", REASON)
        counts = client.batches.retrieve(batch.id).request_counts
        assert counts is not None
        assert (counts.completed, counts.failed) == (0, 0)
        assert upstream.control.seen()["connections"] == 0

        stack.stop()
        stack.start()
        batch = wait_for(client, batch)
        assert_whole(stack, client, batch, [str(number) for number in range(20)])
    assert upstream.control.calls() == {str(number): 1 for number in range(20)}


REST = ("--endpoint", "/v1/chat/completions", "--input-price", "1", "--output-price", "1", "--max-concurrency", "1")


def until_it_says(stack: Stack, path: str, sentence: str) -> None:
    deadline = time.monotonic() + 60
    while sentence not in shown(stack, path):
        assert time.monotonic() < deadline, shown(stack, path)
        time.sleep(0.2)


def shown(stack: Stack, path: str) -> str:
    """The page, as a superuser sees it."""
    return stack.shell(
        "from django.contrib.auth.models import User\n"
        "from django.test import Client\n"
        "client = Client(headers={'Host': 'localhost'})\n"
        "client.force_login(User.objects.filter(is_superuser=True).first())\n"
        f"print(client.get({path!r}).content.decode())"
    )
