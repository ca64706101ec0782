"""Admins that change rows: each write leaves an audit entry, in its own transaction."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django import forms
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from billing_app import audit
from billing_app.models import Account
from config.admin_base import DeskAdmin

if TYPE_CHECKING:  # only the stubs know it as generic
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


class WhyMixin(ModelForm):
    why = forms.CharField(
        label="Why",
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
        help_text="Goes into the audit trail with your name, your address and what you changed.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            # What counts as changed is what differs from the page, not from the row: somebody may have changed
            # another field meanwhile, and is not to be undone by a page that was opened before.
            for field in self.fields.values():
                field.show_hidden_initial = not field.disabled  # a password's hash is, and is no page's business

    @cached_property
    def changed_data(self) -> list[str]:
        return [name for name in super().changed_data if name != "why"]


class WhyForm(WhyMixin):
    pass


class AuditedAdmin(DeskAdmin):
    form: Any = WhyForm
    audit_noun: str  # an entry's action begins with it: "account" in account.created
    audit_added = "created"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj and self.has_change_permission(request, obj):
            return [*fieldsets, (None, {"fields": ["why"], "classes": ["why"]})]
        return fieldsets

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.audit_changes = self.update(obj, form) if change else self.insert(obj, form)

    def insert(self, obj: Any, form: Any) -> dict[str, Any]:
        obj.save()
        return {name: (None, getattr(obj, name)) for name in _columns(obj, form.cleaned_data)}

    def update(self, obj: Any, form: Any) -> dict[str, Any]:
        """Only what was changed: the row's other columns may move meanwhile."""
        stored = type(obj)._default_manager.select_for_update(of=("self",), no_key=True).get(pk=obj.pk)
        pairs = {name: (getattr(stored, name), getattr(obj, name)) for name in _columns(obj, form.changed_data)}
        changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        obj.save(update_fields=list(changes))
        return changes

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        for name in {field.name for field in form.instance._meta.many_to_many} - {*form.changed_data}:
            form.cleaned_data.pop(name, None)
        before = _related(form, formsets)
        super().save_related(request, form, formsets, change)
        after = _related(form, formsets)
        moved = {name: (before[name], after[name]) for name in after if before[name] != after[name]}
        changes = form.audit_changes | moved
        if changes or not change:
            verb = "changed" if change else self.audit_added
            self.audit(request, form.instance, verb, changes, form.cleaned_data.get("why", ""))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.audit(request, obj, "deleted")
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.audit(request, row, "deleted")
        super().delete_queryset(request, queryset)

    def audit(
        self, request: HttpRequest, row: Any, verb: str, changes: audit.Changes | None = None, reason: str = ""
    ) -> None:
        action, account = f"{self.audit_noun}.{verb}", account_name(row)
        audit.record(
            **audit.by(request), action=action, target=row, account=account, changes=changes, reason=reason.strip()
        )


class KeptAdmin(AuditedAdmin):
    """Of rows that others point to for ever: they are disabled, not deleted."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def account_name(row: Model) -> str:
    account = row if isinstance(row, Account) else getattr(row, "account", None)
    return account.name if isinstance(account, Account) else ""


def _columns(obj: Model, names: Iterable[str]) -> list[str]:
    columns = {field.name for field in obj._meta.concrete_fields}
    return [name for name in names if name in columns]


def _related(form: Any, formsets: Iterable[Any]) -> Mapping[str, list[str]]:
    """What belongs to the row and is not in its columns: other rows that it points to or that are edited with it."""
    row = form.instance
    many = [field.name for field in row._meta.many_to_many if field.name in form.cleaned_data]
    state = {name: sorted(map(str, getattr(row, name).all())) for name in many}
    for formset in formsets:
        rows = formset.model._default_manager.filter(**{formset.fk.name: row})
        state[str(formset.model._meta.verbose_name_plural)] = sorted(map(str, rows))
    return state
