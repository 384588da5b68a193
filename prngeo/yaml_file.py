"""YAML as people write it: numbers such as 1e-3 are numbers, a key stands once, and mistakes are told by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from prngeo.errors import UsageError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without two of its surprises."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; PyYAML would let the last of several equal keys win without a word."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in lines:
                problem = f"the key {key.value} stands in line {lines[key.value]} already"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node


_Loader.add_implicit_resolver(  # YAML 1.1, which PyYAML follows, wants 1.0e-3
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_mapping(path: Path) -> dict[str, Any]:
    """The `key: value` lines of a file; {} if it is empty.

    Raises:
        UsageError: it cannot be read, is not UTF-8 or not YAML, or holds something else than keys and values.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid YAML: it is not UTF-8 text. Save it as UTF-8.") from error
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {_told(error, text)}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} does not describe a training run: it holds no `key: value` lines.")
    return content


def read_value(text: str) -> Any:
    """The value of one key.

    Raises:
        ValueError: it is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(text) from error


def _told(error: yaml.YAMLError, text: str) -> str:
    """Where the mistake is and what it is."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    number = error.problem_mark.line
    lines = text.splitlines()
    line = lines[number] if number < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"line {number + 1} is indented with a tab. Indent with spaces"
    problem = str(error.problem)
    if "could not find expected ':'" in problem or "mapping values are not allowed" in problem:
        problem += " (a key, a colon, a space and a value are expected; put text that holds ': ' in quotes)"
    started = error.context_mark
    where = f", in what begins in line {started.line + 1}" if started and started.line != number else ""
    return f"line {number + 1}: {problem}{where}"
