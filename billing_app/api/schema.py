"""Usage and costs, described."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers

from billing_app.api.serializers import COSTS, DAY, MOST_DAYS, TIMES, USAGE, Report
from config.api import schema
from config.api.schema import FixedField, Moment, operation

TAG = "Usage"


class UsageResult(serializers.Serializer[Any]):
    object = FixedField("organization.usage.completions.result")
    input_tokens = serializers.IntegerField(min_value=0)
    output_tokens = serializers.IntegerField(min_value=0)
    input_cached_tokens = serializers.IntegerField(min_value=0, help_text="Of the input tokens.")
    input_audio_tokens = serializers.IntegerField(min_value=0)
    output_audio_tokens = serializers.IntegerField(min_value=0)
    num_model_requests = serializers.IntegerField(min_value=0)
    project_id = serializers.CharField(allow_null=True)
    user_id = serializers.CharField(allow_null=True)
    api_key_id = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True, help_text="Null unless grouped by it.")
    batch = serializers.BooleanField(help_text="Always true.")
    service_tier = serializers.CharField(allow_null=True)


@extend_schema_field({"type": "number", "description": "Exact: not rounded."})
class ExactNumber(serializers.DecimalField):
    def __init__(self) -> None:
        super().__init__(max_digits=None, decimal_places=None)


class CostAmount(serializers.Serializer[Any]):
    value = ExactNumber()
    currency = serializers.CharField(help_text="In small letters: `usd`.")


class CostResult(serializers.Serializer[Any]):
    object = FixedField("organization.costs.result")
    amount = CostAmount()
    line_item = serializers.CharField(allow_null=True, help_text="The model; null unless grouped by it.")
    project_id = serializers.CharField(allow_null=True)


def _page_of(result: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    name = result.__name__.removesuffix("Result")
    bucket = {
        "object": FixedField("bucket"),
        "start_time": Moment(help_text="Inclusive."),
        "end_time": Moment(help_text="Exclusive."),
        "results": result(many=True),
    }
    page = {
        "object": FixedField("page"),
        "data": type(f"{name}Bucket", (serializers.Serializer,), bucket)(many=True),
        "has_more": serializers.BooleanField(help_text="Always false: there is one page."),
        "next_page": serializers.CharField(allow_null=True),
    }
    return type(f"{name}Page", (serializers.Serializer,), page)


def _parameters(report: Report) -> list[OpenApiParameter]:
    time = {"type": "integer", "minimum": TIMES.start, "maximum": TIMES[-1]}
    groups = {"type": "string", "enum": [*report.models, DAY]}
    days = f"`day` makes a bucket of each UTC day, up to {MOST_DAYS} of them; without, one bucket has it all."
    return [
        schema.query("start_time", time, "Unix seconds, inclusive.", required=True),
        schema.query("end_time", time, "Unix seconds, exclusive; now, if left out."),
        schema.by_comma("group_by", schema.list_of(groups), f"Separated by commas, or repeated. {days}"),
    ]


retrieve_usage = operation(
    "retrieveUsage",
    "Tokens used",
    tag=TAG,
    description="What the account's batches used, in the shape of OpenAI's usage API.",
    parameters=_parameters(USAGE),
    answers={200: _page_of(UsageResult)},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     "$BATCHDESK/v1/usage?start_time=1793491200&group_by=model,day"
""",
    python="""
usage = client.get("/usage?start_time=1793491200&group_by=model,day", cast_to=object)
for bucket in usage["data"]:
    print(bucket["start_time"], bucket["results"])
""",
)

retrieve_costs = operation(
    "retrieveCosts",
    "What it was charged",
    tag=TAG,
    description="To the last digit. Top-ups and adjustments are on the statement.",
    parameters=_parameters(COSTS),
    answers={200: _page_of(CostResult)},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     "$BATCHDESK/v1/costs?start_time=1793491200&group_by=line_item"
""",
    python="""
costs = client.get("/costs?start_time=1793491200&group_by=line_item", cast_to=object)
for result in costs["data"][0]["results"]:
    print(result["line_item"], result["amount"]["value"])
""",
)
