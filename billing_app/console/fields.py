"""Fields of filters that several pages have."""

from typing import Any

from django import forms
from django.core.validators import ProhibitNullCharactersValidator
from django.utils.translation import gettext_lazy as _

from billing_app.models import Account


class AccountField(forms.ModelChoiceField[Account]):
    """An account by its name, typed in: of a list of all there would be too many to choose from."""

    widget = forms.TextInput
    default_error_messages = {"invalid_choice": _("There is no account of this name.")}

    def __init__(self, **options: Any) -> None:
        super().__init__(queryset=Account.objects.only("name"), to_field_name="name", **options)

    def to_python(self, value: Any) -> Any:
        ProhibitNullCharactersValidator()(value)  # PostgreSQL has none in its text, and would say so by an error
        return super().to_python(value)
