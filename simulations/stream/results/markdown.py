"""Tables of a stream as Markdown."""

from __future__ import annotations

from simulations.comparison.results.tables import markdown
from simulations.stream.record import StreamRecord
from simulations.stream.results import summary
from simulations.stream.results.tables import tables_of


def to_markdown(record: StreamRecord) -> str:
    """Build the page in Markdown, without the histories."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    seeds = ", ".join(str(seed.seed) for seed in record.seeds)
    lines = ["# Stream", "", f"Command: `{record.command}`. Seeds {seeds}. Versions: {versions}.", ""]
    lines += [f"- {line}" for line in summary.verdict(record)]
    for table in tables_of(record):
        lines += ["", f"## {table.caption}", "", *markdown(table, table.first)]
    return "\n".join(lines) + "\n"
