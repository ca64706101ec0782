import json
import re
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from batches_app import routing
from batches_app.models import ServedModel
from batches_app.models.routing import UPSTREAM_ENDPOINTS
from billing_app import audit, prices
from billing_app.pricing import Rates


class Command(BaseCommand):
    help = "Creates or changes a model: its upstream, endpoints, price and concurrency. Running workers follow at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what tenants write in body.model")
        parser.add_argument("--upstream-url", required=True, help="base URL, such as http://vllm:8000/v1")
        parser.add_argument("--upstream-model", default="", help="its name there, if another")
        parser.add_argument("--upstream-key-env", default="", metavar="VAR", help="environment variable with the key")
        parser.add_argument("--endpoint", action="append", required=True, choices=UPSTREAM_ENDPOINTS, dest="endpoints")
        parser.add_argument("--input-price", required=True, help="per million tokens, real time")
        parser.add_argument("--cached-input-price", help="of input that the upstream had in its cache (default: input)")
        parser.add_argument("--output-price", required=True, help="per million tokens, real time")
        parser.add_argument("--batch-discount", default="0.5", help="factor on the real-time price (default 0.5)")
        parser.add_argument("--max-concurrency", type=int, required=True, help="requests in flight, over all machines")
        parser.add_argument("--context", type=int, metavar="N", help="tokens that fit")
        parser.add_argument("--max-output", type=int, metavar="N", help="tokens of an answer to a line without a limit")
        parser.add_argument("--disable", action="store_true", help="take no new batches; running ones go on")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        _check_name(options["name"])
        route = _route(options)
        rates = _rates(options)
        try:
            model, changed = _serve(options["name"], route, rates)
        except routing.BuiltinModel:
            raise CommandError(f"'{options['name']}' is built in and cannot be changed.") from None
        said = f"Model '{model.name}' {'is set' if changed else 'was set so already'}."
        self.stdout.write(json.dumps({"name": model.name, "changed": changed}) if options["json"] else said)


@transaction.atomic
def _serve(name: str, route: routing.Route, rates: Rates) -> tuple[ServedModel, bool]:
    now = timezone.now()
    before, price = ServedModel.objects.filter(name=name).first(), prices.current(name, at=now)
    model, changed = routing.serve(name, route, rates, now=now)
    if changed:
        facts = asdict(route) | {"price": rates}
        was = {field: getattr(before, field, None) for field in facts} | {"price": price and price.rates}
        changes = {field: (was[field], value) for field, value in facts.items() if was[field] != value}
        action = "model.changed" if before else "model.created"
        audit.record(actor=audit.from_shell("set_model"), action=action, target=model, changes=changes)
    return model, changed


def _rates(options: dict[str, Any]) -> Rates:
    rates = Rates(
        _decimal(options, "input_price"),
        _decimal(options, "output_price"),
        _decimal(options, "batch_discount"),
        settings.CURRENCY,
        None if options["cached_input_price"] is None else _decimal(options, "cached_input_price"),
    )
    if rates.batch_discount > 1:
        raise CommandError("--batch-discount must be between 0 and 1: 0.5 charges half.")
    return rates


def _route(options: dict[str, Any]) -> routing.Route:
    if not routing.is_base_url(options["upstream_url"]):
        raise CommandError(f"--upstream-url must look like http://HOST:PORT/v1, not {options['upstream_url']!r}.")
    if objection := routing.objection_to(options["upstream_url"]):
        raise CommandError(f"--upstream-url cannot be used. {objection}")
    if not re.fullmatch(routing.VARIABLE_NAME, options["upstream_key_env"]):
        raise CommandError("--upstream-key-env is the name of an environment variable, not the key itself.")
    if not 1 <= options["max_concurrency"] <= routing.MOST_CONCURRENCY:
        raise CommandError(f"--max-concurrency must be between 1 and {routing.MOST_CONCURRENCY}.")
    for name in ("context", "max_output"):
        if options[name] is not None and not 1 <= options[name] < 2**31:
            raise CommandError(f"--{name.replace('_', '-')} must be between 1 and 2147483647.")
    if len(options["upstream_model"]) > 200:
        raise CommandError("--upstream-model has at most 200 characters.")
    return routing.Route(
        upstream_url=options["upstream_url"],
        endpoints=sorted(set(options["endpoints"])),
        max_concurrency=options["max_concurrency"],
        upstream_model=options["upstream_model"],
        upstream_key_env=options["upstream_key_env"],
        context_tokens=options["context"],
        max_output_tokens=options["max_output"],
        is_enabled=not options["disable"],
    )


def _check_name(name: str) -> None:
    try:
        ServedModel._meta.get_field("name").clean(name.strip(), None)
    except ValidationError as error:
        raise CommandError(f"The model's name cannot be {name!r}: {error.messages[0]}") from None


def _decimal(options: dict[str, Any], name: str) -> Decimal:
    flag = f"--{name.replace('_', '-')}"
    try:
        value = Decimal(options[name])
    except InvalidOperation:
        raise CommandError(f"{flag} must be a number such as 0.15, not {options[name]!r}.") from None
    if fault := prices.fault(value):
        raise CommandError(f"{flag} {fault}, not {options[name]!r}.")
    return value
