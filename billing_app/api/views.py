from django.utils import timezone
from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from billing_app.api import schema
from billing_app.api.serializers import COSTS, USAGE, Report, page_as_wire, read_query
from billing_app.authentication import account_of
from billing_app.usage import buckets
from config.api.scopes import Scope
from config.api.views import ApiView


class _Page(ApiView):
    """A page of OpenAI's usage API: buckets of time, each with one result or one for each model."""

    scopes = {"get": Scope.USAGE}
    report: Report

    def get(self, request: Request) -> Response:
        query = read_query(request.query_params, self.report, now=timezone.now())
        found = buckets(account_of(request), query.start, query.end, by_model=query.by_model, by_day=query.by_day)
        return Response(page_as_wire(found, self.report, by_model=query.by_model))


@extend_schema_view(get=schema.retrieve_usage)
class Usage(_Page):
    report = USAGE


@extend_schema_view(get=schema.retrieve_costs)
class Costs(_Page):
    """What the batches were charged, to the last digit. Top-ups and adjustments are on the statement."""

    report = COSTS
