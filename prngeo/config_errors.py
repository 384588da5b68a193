"""What is wrong with a configuration, in the words of the person who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

NEAR = 0.6
"""How alike two keys of a section must be for one to be offered in place of the other (difflib's ratio)."""

NEAR_ELSEWHERE = 0.9
"""The same for keys of other sections."""

NEAR_VALUE = 0.7
"""The same for the values of a key: `gpu` is not meant as `cpu`."""


def explain(error: ValidationError, schema: type[BaseModel]) -> str:
    """All mistakes, each with its place: `base.steps: must be a whole number, got 'many'; ...`."""
    return "; ".join(f"{_dotted(item['loc']) or 'config'}: {_message(item, schema)}" for item in error.errors())


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _message(error: Mapping[str, Any], schema: type[BaseModel]) -> str:
    kind, given, limits = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(error["loc"], schema)
    if kind == "missing":
        return "is missing" if isinstance(error["loc"][-1], str) else "is missing: too few values in the list"
    if kind == "invalid_key":
        return "a key must be text; put it in quotes"
    if kind == "too_short":
        return f"must hold {limits['min_length']} or more, got {limits['actual_length'] or 'none'}"
    if kind == "value_error":
        return str(limits["error"])
    if kind == "literal_error":
        choices = re.findall("'([^']+)'", limits["expected"])
        near = difflib.get_close_matches(str(given), choices, 1, NEAR_VALUE)
        return f"must be {limits['expected']}, got {given!r}" + (f"; did you mean {near[0]}?" if near else "")
    expected = _expected(kind, limits)
    if expected is None:
        return str(error["msg"])
    advice = " (put it in quotes)" if kind == "string_type" and not isinstance(given, (list, dict, type(None))) else ""
    return f"must be {expected}, got {_shown(given)}{advice}"


def _expected(kind: str, limits: Mapping[str, Any]) -> str | None:
    """What belongs there, by pydantic's kind of error; None if it is of a rare kind."""
    if kind.startswith("int"):
        return "a whole number"
    if kind in ("float_type", "float_parsing", "finite_number"):
        return "a number"
    if kind.startswith("bool"):
        return "true or false"
    if kind == "string_type":
        return "text"
    if kind in ("list_type", "tuple_type"):
        return "a list, such as [a, b]"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "a section of `key: value` lines"
    if kind.startswith("path"):
        return "a path"
    if kind == "too_long":
        return f"a list of at most {limits['max_length']} values"
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in bounds:
        words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}[bounds[kind]]
        return f"{words} {limits[bounds[kind]]:g}"
    return f"a multiple of {limits['multiple_of']:g}" if kind == "multiple_of" else None


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    text = repr(list(value)) if isinstance(value, (list, tuple)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(place: Sequence[int | str], schema: type[BaseModel]) -> str:
    """The known keys that an unknown one may stand for: of its own section, else of others."""
    *sections, last = place
    key = str(last)
    own = list(_section(schema, sections).model_fields)
    near = difflib.get_close_matches(key, own, 3, NEAR)
    near = near or [_dotted(path) for path in _paths(schema) if _alike(key, path[-1]) >= NEAR_ELSEWHERE]
    if not near:
        return f"unknown key; known are {', '.join(own)}"
    return f"unknown key; did you mean {' or '.join(near)}?"


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _section(schema: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The section at a place of the configuration; numbers of lists and names of targets lead no deeper."""
    for part in path:
        field = schema.model_fields.get(str(part))
        if field is not None:
            schema = next(_models(field.annotation))
    return schema


def _paths(schema: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Every key of a section and of those inside it."""
    for name, field in schema.model_fields.items():
        yield (name,)
        for inner in _models(field.annotation):
            yield from ((name, *path) for path in _paths(inner))


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
