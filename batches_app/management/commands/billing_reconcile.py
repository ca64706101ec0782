import json
import sys
from dataclasses import asdict
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from batches_app.proof import Proof, prove_all, prove_holds
from billing_app.proof import prove_books
from files_app.proof import prove_storage


class Command(BaseCommand):
    help = (
        "Recomputes every batch's bill from its output file, and every balance, hold, month and quota from the rows "
        "behind it; exits 1 where anything disagrees."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        batches = verified = flagged = 0
        wrong: list[dict[str, Any]] = []
        for proof in prove_all():
            batches += 1
            verified += proof.verified
            flagged += proof.flagged
            if not proof.agrees:
                wrong.append(_difference(proof))
        books = [asdict(found) for found in chain(prove_books(), prove_holds(), prove_storage())]
        report = {
            "batches": batches,
            "verified": verified,
            "flagged_requests": flagged,
            "differences": wrong,
            "books": books,
        }
        self.stdout.write(json.dumps(report, indent=2) if options["json"] else _sentences(report))
        if wrong or books:
            sys.exit(1)


def _difference(proof: Proof) -> dict[str, Any]:
    return {
        "batch_id": proof.batch_id,
        "input_tokens": {"ledger": proof.billed.input, "file": proof.found.input},
        "output_tokens": {"ledger": proof.billed.output, "file": proof.found.output},
        "amount": {"ledger": str(proof.charged), "file": str(proof.due)},
    }


def _sentences(report: dict[str, Any]) -> str:
    lines = [
        f"{report['batches']} batches, {report['verified']} proved by their output files; "
        f"{report['flagged_requests']} successful requests without usable usage, not billed, to review."
    ]
    for wrong in report["differences"]:
        lines.append(
            f"{wrong['batch_id']}: the ledger charged {wrong['amount']['ledger']}, "
            f"the file says {wrong['amount']['file']} "
            f"(input tokens {wrong['input_tokens']}, output tokens {wrong['output_tokens']})"
        )
    for wrong in report["books"]:
        lines.append(f"{wrong['account']}: {wrong['what']} is {wrong['kept']}, and should be {wrong['due']}")
    agrees = not report["differences"] and not report["books"]
    return "\n".join([*lines, "The ledger agrees." if agrees else "The ledger disagrees."])
