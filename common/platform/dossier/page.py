"""The readable part of a dossier as one page of HTML, from which the PDF is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from common.printable import printable

_STYLE = """
@page { size: A4; margin: 20mm 18mm 20mm 18mm;
  @bottom-right { content: counter(page) " / " counter(pages); font-size: 8pt; } }
body { font-family: "DejaVu Sans", sans-serif; font-size: 9.5pt; line-height: 1.4; color: #111; }
h1 { font-size: 17pt; margin: 0 0 4mm; }
h2 { font-size: 12pt; margin: 7mm 0 2mm; border-bottom: 0.4pt solid #555; break-after: avoid; }
p { margin: 0 0 2mm; }
table { width: 100%; border-collapse: collapse; font-size: 8.5pt; margin-bottom: 2mm; }
th, td { border: 0.4pt solid #999; padding: 1mm 1.5mm; text-align: left; vertical-align: top;
  overflow-wrap: break-word; }
th { background: #eee; }
tr { break-inside: avoid; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and a table if there are columns."""

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()


def minute(moment: datetime | None) -> str:
    """A moment as the page shows it; a dash where there is none."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def as_page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The page; texts of other parties become harmless lines."""
    body = "".join(map(_drawn, sections))

    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>{_paragraphs(lead)}{body}</body></html>"
    )


def _drawn(section: Section) -> str:
    return f"<h2>{_text(section.title)}</h2>{_paragraphs(section.text)}{_table(section)}"


def _table(section: Section) -> str:
    if not section.columns:
        return ""
    if not section.rows:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in section.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in section.rows)

    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _text(value: object) -> str:
    return escape("-" if value is None else printable(str(value)))
