from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from billing_app.amounts import AmountField
from billing_app.pricing import plain

MOST_DIGITS = 1000  # of either side of the point; PostgreSQL's own limits are not far beyond


class ExactDecimalField(models.Field):  # type: ignore[type-arg]  # django-stubs has no short way to say "Decimal in, Decimal out"
    """A decimal of any precision, kept exactly.

    Django's DecimalField is a float in SQLite, which holds 15 digits; half a price times a token has more. There
    it is text, written in the one shortest way, so that a comparison with 0 or 1 is right (for constraints); other
    comparisons and sums are for Python.
    """

    def formfield(self, **options: Any) -> Any:
        return super().formfield(**({"form_class": AmountField} | options))

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "numeric" if connection.vendor == "postgresql" else "text"

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Decimal | None:
        return self.to_python(value)

    def to_python(self, value: Any) -> Decimal | None:
        return value if value is None or isinstance(value, Decimal) else Decimal(str(value))

    def get_prep_value(self, value: Any) -> Any:
        """Also of what somebody has put into the address of a list: 1e999999 is a million digits."""
        value = self.to_python(value)
        if value is not None and not (value.is_finite() and abs(value.adjusted()) < MOST_DIGITS):
            raise ValidationError(f"{value} is not an amount.")
        return value

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        value = self.to_python(value)
        if value is None:
            return None
        text = plain(value)
        return Decimal(text) if connection.vendor == "postgresql" else text
