"""From an upstream's answer to what becomes of the line: send it again, or its result."""

from typing import NamedTuple

from batches_app import results, streaming
from batches_app.results import ErrorCode, Outcome
from batches_app.upstream.client import Answer, Fault
from batches_app.upstream.retry import Verdict, judge
from billing_app.pricing import Tokens

_CODES = {Fault.CONNECT: ErrorCode.CONNECTION_ERROR, Fault.RESET: ErrorCode.CONNECTION_ERROR}
_CODES |= {Fault.TIMEOUT: ErrorCode.TIMEOUT}


class Judgement(NamedTuple):
    """`outcome`: the line's result if it is not tried again. `tokens`: of a success, None if not to be billed."""

    verdict: Verdict
    outcome: Outcome
    tokens: Tokens | None


def consider(answer: Answer, endpoint: str) -> Judgement:
    """R1, R2, R3. An answer that is a success by its status and unusable by its body is tried again like a 500: a
    proxy's HTML page with 200 passes."""
    verdict = judge(answer)
    if verdict is not Verdict.SUCCESS:
        return Judgement(verdict, _failure(answer), None)
    try:
        body = _assembled(answer, endpoint)
    except streaming.UnusableStream as error:
        return _unusable(answer, str(error))
    usable, tokens = results.examine(body)
    if not usable:
        return _unusable(answer, "The upstream's answer is not a JSON object in UTF-8.")
    return Judgement(verdict, Outcome(answer.status, answer.request_id, body), tokens)


def _assembled(answer: Answer, endpoint: str) -> bytes:
    # By what came, not by what was asked for: some upstreams stream unasked, and some do not though asked.
    if answer.content_type.startswith("text/event-stream"):
        return streaming.assemble(answer.body, endpoint)
    return answer.body


def _failure(answer: Answer) -> Outcome:
    if answer.fault is None:
        return Outcome(answer.status, answer.request_id, answer.body)
    code = _CODES.get(answer.fault, ErrorCode.INVALID_RESPONSE)
    return Outcome(None, answer.request_id, b"", code, answer.message)


def _unusable(answer: Answer, message: str) -> Judgement:
    outcome = Outcome(None, answer.request_id, b"", ErrorCode.INVALID_RESPONSE, message)
    return Judgement(Verdict.RETRY, outcome, None)
