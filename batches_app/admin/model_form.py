"""The form of a served model in the admin: what set_model refuses, it refuses too."""

import re
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from batches_app import routing
from batches_app.models import ServedModel
from batches_app.models.routing import UPSTREAM_ENDPOINTS
from billing_app import prices
from billing_app.audited import WhyMixin


class ServedModelForm(WhyMixin):
    endpoints = forms.MultipleChoiceField(
        choices=[(endpoint, endpoint) for endpoint in UPSTREAM_ENDPOINTS],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one."},
    )

    class Meta:
        model = ServedModel
        exclude = ["created_at"]
        labels = {
            "is_enabled": "Enabled",
            "upstream_url": "Address",
            "upstream_model": "Model there",
            "upstream_key_env": "Key variable",
            "max_concurrency": "Concurrency",
            "context_tokens": "Context",
            "max_output_tokens": "Longest answer",
        }
        help_texts = {
            "is_enabled": "A disabled model takes no new batches; running ones go on.",
            "context_tokens": "Tokens that fit. Empty: not checked before the upstream does.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "endpoints" in self.fields and self.instance.is_builtin:
            del self.fields["endpoints"]  # shown, not asked for
        if "max_concurrency" in self.fields:
            within = [MinValueValidator(1), MaxValueValidator(routing.MOST_CONCURRENCY)]
            self.fields["max_concurrency"].validators += within

    def clean_endpoints(self) -> list[str]:
        return sorted(self.cleaned_data["endpoints"])

    def clean_upstream_url(self) -> str:
        url: str = self.cleaned_data["upstream_url"]
        if not routing.is_base_url(url):
            raise forms.ValidationError("It must look like http://HOST:PORT/v1: the endpoint is appended to it.")
        if objection := routing.objection_to(url):
            raise forms.ValidationError(objection)
        return url

    def clean_upstream_key_env(self) -> str:
        name: str = self.cleaned_data["upstream_key_env"]
        if not re.fullmatch(routing.VARIABLE_NAME, name):
            raise forms.ValidationError("This is the name of an environment variable, not the key itself.")
        return name

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        name = cleaned.get("name") or self.instance.name
        if cleaned.get("is_enabled") and name and prices.current(name, timezone.now()) is None:
            self.add_error("is_enabled", no_price(name))
        return cleaned


def no_price(name: str) -> SafeString:
    url = f"{reverse('admin:billing_app_price_add')}?{urlencode({'model_name': name})}"
    return format_html(
        '{} has no price in force, so its batches could not be billed. <a href="{}">Add a price</a> first.', name, url
    )
