import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from batches_app.proof import Proof, prove_all


class Command(BaseCommand):
    help = "Recomputes every batch's tokens and amount from its output file, and exits 1 where the ledger disagrees."

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
        report = {"batches": batches, "verified": verified, "flagged_requests": flagged, "differences": wrong}
        self.stdout.write(json.dumps(report, indent=2) if options["json"] else _sentences(report))
        if wrong:
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
    return "\n".join([*lines, "The ledger disagrees." if report["differences"] else "The ledger agrees."])
