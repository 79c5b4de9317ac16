"""The report of one run: read `result.json`, write `report.html`, print the table, draw the key picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from common.errors import ResultError
from common.files import write_text
from simulations.reporting.answer import measured
from simulations.reporting.charts.drawing import style, to_png
from simulations.reporting.charts.models import draw_models
from simulations.reporting.charts.rehearsals import draw_rehearsals
from simulations.reporting.page import render
from simulations.reporting.terminal import print_table
from simulations.result import Result

__all__ = ["draw_summary", "load_result", "print_table", "write_report"]

RESULT_FILE = "result.json"
REPORT_FILE = "report.html"
_VERSION = Result.model_fields["schema_version"].default


def load_result(folder: Path) -> Result:
    """Read `result.json` of a run.

    Raises:
        ResultError: the file is missing, is not JSON, or does not follow the schema of this version.
    """
    file = folder / RESULT_FILE

    try:
        # Python also reads NaN and Infinity, which other readers of JSON refuse.
        values = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (FileNotFoundError, NotADirectoryError):
        raise ResultError(
            f"no {RESULT_FILE} here", where=str(folder), remedy="give the folder that a run wrote with --out"
        ) from None
    except OSError as err:
        raise ResultError(f"cannot be read: {err.strerror}", where=str(file)) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise ResultError(f"not valid JSON: {err}", where=str(file), remedy="run again with --resume") from None
    except _NotANumber as err:
        raise ResultError(
            f"{err} is not a figure of JSON", where=str(file), remedy="a missing figure is null with a reason"
        ) from None

    # Before the schema, whose complaint about another version would name some field and help nobody.
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != _VERSION:
        raise ResultError(
            f"schema_version is {version!r}, this version reads {_VERSION}",
            where=str(file),
            remedy="use the version of fedforget that wrote it, or run again",
        )

    try:
        return Result.model_validate(values)
    except ValidationError as err:
        first = err.errors()[0]
        raise ResultError(
            f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
            where=str(file),
            remedy="the file was changed by hand or is of another version; run again",
        ) from None


def write_report(result: Result, folder: Path) -> Path:
    """Write `report.html`, one page that needs nothing else, into `folder`; returns its path.

    Raises:
        OutputError: the folder cannot be written; an earlier report is then left as it was.
    """
    file = folder / REPORT_FILE
    write_text(file, render(result))
    return file


def draw_summary(result: Result) -> bytes:
    """The key picture as a PNG: attacks on the models, or the rehearsals where too few were forgotten to attack."""
    with style():
        if result.rehearsals is not None and not measured(result):
            return to_png(draw_rehearsals(result.rehearsals))
        return to_png(draw_models(result))


class _NotANumber(ValueError):
    """`NaN` or `Infinity`, which Python reads but JSON does not know."""


def _refuse(constant: str) -> NoReturn:
    raise _NotANumber(constant)
