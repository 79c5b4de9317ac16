"""Forms: what was filled in, checked by a pydantic model, and what is wrong with each field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from common.platform.console.page import Visit

_MESSAGES = {
    "missing": "Fill in this field.",
    "string_too_short": "Fill in this field.",
    "string_too_long": "This is too long.",
    "literal_error": "Choose one of the values.",
    "datetime_from_date_parsing": "Write a date like 2026-03-01.",
    "date_from_datetime_parsing": "Write a date like 2026-03-01.",
    "date_parsing": "Write a date like 2026-03-01.",
}


class FormModel(BaseModel):
    """Base of the fields of a form: unknown fields are ignored, texts are stripped."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)


T = TypeVar("T", bound=FormModel)


@dataclass(slots=True)
class Filled(Generic[T]):
    """A form as it was sent.

    Attributes:
        values: texts by field, to show them again.
        errors: what is wrong, by field; empty if the form is right.
        model: what it says; None if something is wrong.
    """

    values: Mapping[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    model: T | None = None

    def value(self, name: str) -> str:
        """The text of a field."""
        return self.values.get(name, "")


def empty(**values: str) -> Filled[FormModel]:
    """A form that nobody has sent yet, with some values."""
    return Filled(values)


def filled(visit: Visit, model: type[T]) -> Filled[T]:
    """Check the fields of a form. A field of several values, such as check boxes, must be a tuple in the model."""
    texts = {}
    values: dict[str, object] = {}

    for name, about in model.model_fields.items():
        if str(about.annotation).startswith("tuple"):
            values[name] = tuple(visit.fields(name))
            continue
        text = visit.field(name, most=20_000)
        texts[name] = text
        # An empty optional field is left out, so that the model's default applies.
        if text or about.is_required():
            values[name] = text

    result: Filled[T] = Filled(texts)

    try:
        result.model = model.model_validate(values)
    except ValidationError as err:
        for problem in err.errors():
            name = str(problem["loc"][0]) if problem["loc"] else ""
            message = _MESSAGES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            result.errors.setdefault(name, visit.text(message))

    return result
