"""The tables of a comparison, as CSV, Markdown and LaTeX, from results alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simulations.comparison.cell_result import CellResult
from simulations.comparison.plan import size_name
from simulations.comparison.results import summary
from simulations.comparison.results.claims import claims_markdown
from simulations.comparison.results.summary import Mean, Metric, Row

DASH = "—"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; `aims` says which values of each column are good."""

    caption: str
    head: tuple[str, ...]
    aims: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(all_rows: Sequence[Row], size: float) -> list[Table]:
    """All tables of one size: the paper's, branches, cost, collateral damage by class and by other hospital."""
    here = summary.at(all_rows, size)
    per = f"{size_name(size)} % forgotten"

    return [
        _metrics(f"Forgetting and utility, {per}", here, summary.MEASURED),
        _metrics(f"Each branch, and the attack that no method sees, {per}", here, summary.BRANCHES),
        _metrics(f"Cost against retraining, {per}", [row for row in here if row.aggregation], summary.COST),
        _differences(f"Test AUC less that of retrained, by class, {per}", here, summary.by_class),
        _differences(
            f"Test AUC less that of retrained, at hospitals where nobody revoked, {per}",
            here,
            summary.by_other_hospital,
        ),
    ]


def shown(mean: Mean | None, form: str = "{:.3f}") -> str:
    """`0.512 [0.480, 0.544]`, or a dash."""
    if mean is None:
        return DASH
    text = form.format(mean.value)
    if mean.interval is not None:
        text += f" [{form.format(mean.interval[0])}, {form.format(mean.interval[1])}]"
    return text if mean.seeds == mean.of else f"{text} ({mean.seeds} of {mean.of} seeds)"


def _metrics(caption: str, all_rows: Sequence[Row], metrics: Sequence[Metric]) -> Table:
    return Table(
        caption,
        tuple(metric.title for metric in metrics),
        tuple(metric.aim for metric in metrics),
        tuple((row.name, *(shown(row.mean(metric.read), metric.form) for metric in metrics)) for row in all_rows),
    )


def _differences(caption: str, all_rows: Sequence[Row], read: Callable[[Row], Mapping[str, Mean | None]]) -> Table:
    names = tuple(read(all_rows[0])) if all_rows else ()
    body = tuple(
        (row.name, *(shown(read(row).get(name), "{:+.3f}") for name in names))
        for row in all_rows
        if row.method != "retrained"
    )
    return Table(caption, names, ("0 is the aim",) * len(names), body)


def to_csv(all_rows: Sequence[Row]) -> str:
    """A row per method, aggregation and size; for each figure, its mean, interval and number of seeds."""
    # By key, as some figures stand in two of the tables.
    metrics = list({metric.key: metric for metric in (*summary.MEASURED, *summary.BRANCHES, *summary.COST)}.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("mean", "low95", "high95", "seeds")
    writer.writerow(
        ["method", "variant", "aggregation", "forgotten", *(f"{m.key}_{end}" for m in metrics for end in ends)]
    )

    for row in all_rows:
        line: list[str | float] = [row.method, row.variant, row.aggregation, row.size]
        for metric in metrics:
            mean = row.mean(metric.read)
            if mean is None:
                line += ["", "", "", 0]
            else:
                line += [mean.value, *(mean.interval or ("", "")), mean.seeds]

        writer.writerow(line)

    return text.getvalue()


def to_markdown(all_rows: Sequence[Row], results: Sequence[CellResult], command: str) -> str:
    """The whole page."""
    seeds = sorted({r.cell.seed for r in results})
    versions = ", ".join(f"{name} {number}" for name, number in results[0].versions.items())
    lines = [
        "# Comparison",
        "",
        f"Command: `{command}`. Seeds {', '.join(map(str, seeds))}. Versions: {versions}.",
        "",
        "Each cell is the mean over seeds with its 95 % interval (Student's t). Gap: mean of the differences to the",
        "retrained model of the same seed in MIA loss AUC and forget AUC. A destroyed model has not forgotten: MIA is",
        "to be read with cross-entropy and test AUC.",
    ]

    for size in summary.sizes(all_rows):
        lines += ["", f"## {size_name(size)} % forgotten", "", summary.verdict(summary.at(all_rows, size))]
        for table in tables_of(all_rows, size):
            if table.head:
                lines += ["", f"### {table.caption}", "", *markdown(table)]

        if claims := claims_markdown(summary.at(all_rows, size)):
            lines += ["", f"### What the Forget-MI paper claims, {size_name(size)} % forgotten", "", *claims]

    return "\n".join(lines) + "\n"


def markdown(table: Table, first: str = "method") -> list[str]:
    """Lines of a table in Markdown; `first` is the heading of the column of names."""
    head = [first, *(f"{name} ({aim})" if aim else name for name, aim in zip(table.head, table.aims, strict=True))]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in table.rows)]


def to_latex(all_rows: Sequence[Row]) -> str:
    """LaTeX tables for `booktabs`, to include in a paper."""
    parts = []

    for size in summary.sizes(all_rows):
        for table in tables_of(all_rows, size):
            if not table.head:
                continue
            head = " & ".join(["method", *map(_tex, table.head)])
            body = "\n".join(" & ".join(map(_tex, row)) + r" \\" for row in table.rows)
            aims = "; ".join(f"{name}: {aim}" for name, aim in zip(table.head, table.aims, strict=True))
            parts.append(
                "\\begin{table}\n\\centering\n"
                f"\\caption{{{_tex(table.caption)}. Mean over seeds [95 \\% interval]. {_tex(aims)}.}}\n"
                f"\\begin{{tabular}}{{l{'r' * len(table.head)}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\n"
                "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
            )

    return "\n".join(parts)


def _tex(text: str) -> str:
    for sign in "&%_#$":
        text = text.replace(sign, f"\\{sign}")
    return text.replace(DASH, "--")
