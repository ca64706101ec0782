"""One question to an upstream, to see whether it is there: the list of its models."""

import pycurl

from batches_app.upstream.client import base_of, redacted, secrets_of
from batches_app.upstream.transfers import Answer, Buffer, Limits, Transfer, request_headers
from config.addresses import Policy

MODELS = "/v1/models"


def ask_for_models(url: str, api_key: str | None, limits: Limits, policy: Policy) -> Answer:
    """`tag` is None. No redirect is followed, and what the answer's `message` says has no secret in it."""
    transfer = Transfer(request_headers(api_key), limits, policy, Buffer(limits.buffered_bytes))
    transfer.load(None, base_of(url) + MODELS, MODELS, b"")
    transfer.curl.setopt(pycurl.HTTPGET, 1)
    try:
        transfer.curl.perform()
        return transfer.answered()
    except pycurl.error as error:
        code, detail = error.args
        return transfer.failed(code, redacted(detail, secrets_of(url, api_key)))
    finally:
        transfer.curl.close()
