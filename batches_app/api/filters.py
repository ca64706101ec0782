"""B7"""

import re
from collections.abc import Mapping
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from batches_app.models import Batch
from batches_app.states import Status
from config.api.errors import InvalidValue

LIST_DEFAULT, LIST_LIMIT = 20, 100
INPUT_FILES = 20
YEARS = range(1970, 9999)


def filter_batches(batches: QuerySet[Batch], params: Mapping[str, str]) -> QuerySet[Batch]:
    if name := params.get("ds_name"):
        batches = batches.filter(name__icontains=name)
    if files := params.get("input_file_ids"):
        batches = batches.filter(input_file_id__in=_input_files(files))
    if statuses := params.get("status"):
        batches = batches.filter(status__in=_statuses(statuses))
    if after := params.get("create_after"):
        batches = batches.filter(created_at__gte=_moment(after, "create_after"))
    if before := params.get("create_before"):
        batches = batches.filter(created_at__lte=_moment(before, "create_before"))
    return batches


def _input_files(value: str) -> list[str]:
    parts = value.split(",")
    if len(parts) > INPUT_FILES:
        raise InvalidValue("input_file_ids", value, f"up to {INPUT_FILES} ids, separated by commas")
    return [part.strip() for part in parts if part.strip()]


def _statuses(value: str) -> list[str]:
    statuses = [part.strip() for part in value.split(",")]
    known = [str(status) for status in Status]
    for status in statuses:
        if status not in known:
            raise InvalidValue("status", status, ", ".join(f"'{name}'" for name in known))
    return statuses


def _moment(value: str, param: str) -> datetime:
    """In the server's TIME_ZONE."""
    try:
        moment = datetime.strptime(value, "%Y%m%d%H%M%S") if re.fullmatch("[0-9]{14}", value) else None  # noqa: DTZ007  # the zone is set below
    except ValueError:
        moment = None
    # The first and last years overflow when they are moved to UTC.
    if moment is None or moment.year not in YEARS:
        raise InvalidValue(param, value, "times as yyyyMMddHHmmss")
    return timezone.make_aware(moment, timezone.get_default_timezone())
