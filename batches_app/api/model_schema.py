"""The Models API, described."""

from typing import Any

from rest_framework import serializers

from config.api import schema
from config.api.schema import FixedField, Moment, operation

TAG = "Models"


class Model(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = FixedField("model")
    created = Moment()
    owned_by = FixedField("batchdesk")


class ModelList(serializers.Serializer[Any]):
    object = FixedField("list")
    data = Model(many=True)  # type: ignore[assignment]  # DRF takes members out of the class


list_models = operation(
    "listModels",
    "List models",
    tag=TAG,
    description="What a batch's requests may name as their `model`.",
    answers={200: ModelList},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     $BATCHDESK/v1/models
""",
    python="print([model.id for model in client.models.list()])",
)

retrieve_model = operation(
    "retrieveModel",
    "Retrieve a model",
    tag=TAG,
    parameters=[schema.path_id("model_id", "batch-test-model", "With its `/` and `:`, if it has some.")],
    answers={200: Model},
    errors={404: "There is no such model."},
    curl="""
curl -H "Authorization: Bearer $API_KEY" \\
     $BATCHDESK/v1/models/batch-test-model
""",
    python='print(client.models.retrieve("batch-test-model"))',
)
