"""Tables on stdout; wide enough for their text when stdout is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NO_TERMINAL = 110  # columns


def console() -> Console:
    """A console on stdout."""
    return Console(width=None if sys.stdout.isatty() else _NO_TERMINAL, highlight=False, soft_wrap=False)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str = "",
    right: Sequence[str] = (),
) -> Table:
    """A plain table; cells are taken literally, without markup.

    Args:
        columns: headings; all empty for a table without.
        rows: cells.
        title: above the table, at the left.
        right: columns whose cells are aligned at the right.
    """
    made = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=any(columns),
        pad_edge=False,
        padding=(0, 1),
    )
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made
