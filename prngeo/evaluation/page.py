"""The parts of a report: one HTML page with its figures inside, which opens without a network and prints well."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: #222; max-width: 1100px; margin: 2em auto;
  padding: 0 1.2em; }
h1 { font-size: 1.6em; margin-bottom: .1em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
p.lead { color: #555; margin-top: 0; }
table { border-collapse: collapse; margin: .8em 0; } th, td { padding: .25em .8em .25em 0; text-align: left;
  border-bottom: 1px solid #eee; vertical-align: top; } th { font-weight: 600; } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; } .d { color: #666; font-size: .88em; }
.i { color: #666; font-size: .82em; white-space: nowrap; }
figure { margin: .6em 0; display: inline-block; vertical-align: top; max-width: 100%; break-inside: avoid; }
figure img { max-width: 100%; height: auto; display: block; } figcaption { color: #555; font-size: .88em;
  max-width: 34em; }
.crops figure { margin-right: .8em; } .crops img { width: 310px; image-rendering: pixelated; border: 1px solid #ddd; }
.crops figcaption { max-width: 310px; } .map figure { max-width: 49%; margin-right: .5%; }
.map img { border: 1px solid #ddd; } td:first-child { white-space: nowrap; }
.note { background: #fff6dd; border-left: 4px solid #e0a800; padding: .4em .8em; margin: .5em 0; }
.verdict { background: #eef5ee; border-left: 4px solid #2a9d55; padding: .4em .8em; }
.strip { display: flex; gap: 8px; break-inside: avoid; } .strip figure { flex: 1 1 0; min-width: 0; margin: 0 0 1em; }
.strip img { width: 100%; aspect-ratio: 1; object-fit: contain;
  image-rendering: pixelated; border: 1px solid #ddd; box-sizing: border-box; }
p.tile { margin: .8em 0 .2em; break-after: avoid; } pre { font-size: .82em; white-space: pre-wrap; background: #f6f6f4;
  padding: .8em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.key span { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; vertical-align: -1px;
  outline: 1px solid #ddd; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2, h3, .key { break-after: avoid; }
  td:first-child { white-space: normal; }
  table { break-inside: avoid; } figure { max-width: 48%; } .crops figure { max-width: 31%; }
  .crops img { width: 100%; } .strip figure { max-width: none; } }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page.

    Args:
        title: plain text; shown by the browser, not on the page.
        parts: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def section(title: str, content: str) -> str:
    """A heading and what belongs to it; the content is HTML."""
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], plain: Sequence[int] = (0,)) -> str:
    """Cells are HTML already; columns not in `plain` are numbers, and the last may hold definitions (class d)."""
    kinds = ["" if index in plain else ' class="n"' for index in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, headings, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def figure(source: str, alt: str, caption: str) -> str:
    """An image with a caption, from image data; alt and caption are plain text."""
    return f'<figure><img src="{source}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'


def color_key(colors: Sequence[tuple[str, str]]) -> str:
    """What colors mean: pairs of a color as CSS writes it and plain text."""
    entries = "".join(f'<span style="background:{color}"></span>{escape(text)}' for color, text in colors)
    return f'<p class="key">{entries}</p>'
