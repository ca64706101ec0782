"""Form fields of the filters: what people type in, and what addresses carry."""

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms


class ChoicesField(forms.MultipleChoiceField):
    """Several values: the parameter repeated, or with commas. A name of `aliases` stands for several."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, *, aliases: Mapping[str, Iterable[str]], **options: Any) -> None:
        super().__init__(**options)
        self._aliases = aliases

    def to_python(self, value: Any) -> list[str]:
        return self._spread(value or [])

    def bound_data(self, data: Any, initial: Any) -> Any:
        return self._spread(data or [])

    def _spread(self, values: Iterable[str]) -> list[str]:
        words = [word.strip() for value in values for word in str(value).split(",") if word.strip()]
        return list(dict.fromkeys(name for word in words for name in self._aliases.get(word, [word])))
