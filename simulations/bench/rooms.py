"""Draws the rooms of the code and their imports as a Mermaid chart for `docs/architecture.md`.

`python -m simulations.bench.rooms --write docs/architecture.md` replaces the chart between the page's two marks;
`--check` fails if the chart on the page is out of date.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Mapping
from pathlib import Path

from common.errors import ConfigError
from common.files import write_text

LAYERS = ("simulations", "client", "server", "common")
_BETWEEN = (("simulations", "client"), ("simulations", "server"), ("client", "common"), ("server", "common"))
_NO_ROOMS = {
    *("app", "cli", "commands", "database", "migrations", "process", "settings", "settings_sections"),
    *("baseline_result", "disk", "entry", "errors", "files", "installation", "printable", "result"),
}
_BEGIN = "<!-- rooms: begin"
_END = "<!-- rooms: end"

Arrows = dict[str, set[str]]


def arrows(root: Path) -> Arrows:
    """Imports between rooms, over all packages. A room is a folder of a package, or a module at its top level."""
    rooms: Arrows = {}

    for package in LAYERS:
        for path in sorted((root / package).rglob("*.py")):
            here = _room(path.relative_to(root).with_suffix("").parts)
            targets = rooms.setdefault(here, set())

            for module in _imports(ast.parse(path.read_text(encoding="utf-8"))):
                there = _room(tuple(module.split(".")))
                if there.split(".")[0] in LAYERS and there != here:
                    targets.add(there)

    return rooms


def chart(rooms: Arrows) -> str:
    """A Mermaid flowchart: a box for each package with its rooms; an arrow that others imply is left out."""
    lines = ["```mermaid", "flowchart TB"]

    for package in LAYERS:
        inside = {
            room: {there for there in targets if there.startswith(f"{package}.")}
            for room, targets in rooms.items()
            if _is_folder(room) and room.startswith(f"{package}.")
        }
        inside = {room: {there for there in targets if there in inside} for room, targets in inside.items()}

        lines.append(f"  subgraph {package}")
        lines += [f"    {_node(room)}[{room.split('.')[1]}]" for room in sorted(inside)]
        lines += [
            f"    {_node(room)} --> {_node(there)}"
            for room, targets in sorted(_reduced(inside).items())
            for there in sorted(targets)
        ]
        lines.append("  end")

    # One arrow between two packages: arrows between all their rooms would hide the layers.
    lines += [f"  {upper} --> {lower}" for upper, lower in _BETWEEN]

    return "\n".join([*lines, "```"])


def _node(room: str) -> str:
    return room.replace(".", "_")


def _is_folder(room: str) -> bool:
    return room.count(".") == 1 and room.split(".")[1] not in _NO_ROOMS


def _reduced(rooms: Mapping[str, set[str]]) -> Arrows:
    """Drop arrows that a longer path implies."""
    return {
        room: {
            there
            for there in targets
            if not any(there in _reachable(rooms, between) for between in targets if between != there)
        }
        for room, targets in rooms.items()
    }


def _reachable(rooms: Mapping[str, set[str]], start: str) -> set[str]:
    rooms_below: set[str] = set()
    waiting = [start]

    while waiting:
        for there in rooms.get(waiting.pop(), set()) - rooms_below:
            rooms_below.add(there)
            waiting.append(there)

    return rooms_below


def _room(parts: tuple[str, ...]) -> str:
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1] != "__init__" else parts[0]


def _imports(tree: ast.Module) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and "." in node.module:
            modules.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}

    return modules


def replaced(page: str, new: str) -> str:
    """`page` with the chart between its marks replaced.

    Raises:
        ConfigError: the page has no marks.
    """
    lines = page.splitlines()
    marks = [at for at, line in enumerate(lines) if line.startswith((_BEGIN, _END))]
    if len(marks) != 2:
        remedy = f"add lines that begin with {_BEGIN} and {_END}"
        raise ConfigError("the page has no marks for the chart", remedy=remedy)

    return "\n".join([*lines[: marks[0] + 1], new, *lines[marks[1] :]]) + "\n"


def main() -> None:
    """Print the chart, write it into a page, or compare it with a page."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.rooms", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: the current folder)")
    parser.add_argument("--write", type=Path, help="page whose chart is replaced")
    parser.add_argument("--check", type=Path, help="page whose chart is compared")
    arguments = parser.parse_args()

    new = chart(arrows(arguments.root))

    if arguments.write:
        write_text(arguments.write, replaced(arguments.write.read_text(encoding="utf-8"), new))
    elif arguments.check:
        page = arguments.check.read_text(encoding="utf-8")
        if replaced(page, new) != page:
            sys.exit(f"{arguments.check}: the chart is out of date; run with --write")
    else:
        print(new)  # noqa: T201 - what the command is for


if __name__ == "__main__":
    main()
