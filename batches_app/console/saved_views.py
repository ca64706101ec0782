"""Filters that an operator comes back to, under a name of their own."""

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches_app.console.batch_filters import BatchFilters
from batches_app.console.batch_view import ViewForm
from batches_app.models import SavedView
from config.console.access import page
from config.console.filtering import first_page, problems_of
from config.templatetags.console import visible

MOST = 50  # of one operator
LONGEST = 2000  # characters of an address, as the column has it


class SaveForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=60)
    query = forms.CharField(label=gettext_lazy("Filters"), max_length=LONGEST, required=False)

    def clean_query(self) -> str:
        """Only what the list will take when it is opened again."""
        params = first_page(QueryDict(self.cleaned_data["query"]))
        for form in (BatchFilters(params, now=timezone.now()).form, ViewForm(params)):
            if problems := problems_of(form):
                raise forms.ValidationError(problems)
        query = params.urlencode()
        if len(query) > LONGEST:
            raise forms.ValidationError(gettext_lazy("These filters are too long to be kept."))
        return query


@dataclass(frozen=True, slots=True)
class Choice:
    pk: int
    name: str
    query: str

    def is_of(self, params: QueryDict) -> bool:
        """Whether it is what the list shows."""
        return _as_set(QueryDict(self.query)) == _as_set(first_page(params))


def _as_set(params: QueryDict) -> set[tuple[str, str]]:
    return {(name, value) for name, values in params.lists() for value in values}


@page("batches_app.view_batch", methods=["POST"])
def save_view(request: HttpRequest) -> HttpResponse:
    form = SaveForm(request.POST)
    if form.is_valid():
        _save(request, form.cleaned_data)
    else:
        messages.error(request, " ".join(problems_of(form)))
    return _back(request)


def _save(request: HttpRequest, chosen: dict[str, Any]) -> None:
    """Under a name that is taken: in the place of what it stood for."""
    name = chosen["name"]
    mine = SavedView.objects.filter(user=request.user.pk)
    if mine.exclude(name=name).count() >= MOST:
        messages.error(request, _("You have %(most)d saved views. Delete one first.") % {"most": MOST})
        return
    SavedView.objects.update_or_create(user_id=request.user.pk or 0, name=name, defaults={"query": chosen["query"]})
    messages.success(request, _("Saved as “%(name)s”.") % {"name": visible(name)})


@page("batches_app.view_batch", methods=["POST"])
def delete_view(request: HttpRequest, pk: int) -> HttpResponse:
    view = get_object_or_404(SavedView, pk=pk, user=request.user.pk)
    view.delete()
    messages.success(request, _("“%(name)s” is deleted.") % {"name": visible(view.name)})
    return _back(request)


def _back(request: HttpRequest) -> HttpResponse:
    query = QueryDict(request.POST.get("query", "")).urlencode()
    return redirect(reverse("console:batches") + (f"?{query}" if query else ""))
