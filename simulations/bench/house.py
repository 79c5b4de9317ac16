"""Figures about the layout and the readability of the code: `python -m simulations.bench.house`.

They show where a reader may stumble: large folders, functions without paragraphs, code without comments, variables
named by what happened to them. They cover the packages without tests, migrations and generated code.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGES = ("common", "client", "server", "simulations", "fedforget")
_SKIPPED = ("/migrations/", "_pb2.py", "_pb2_grpc.py")
_IRREGULAR = frozenset(
    {
        *("begun", "bought", "brought", "built", "chosen", "come", "done", "drawn", "felt", "found", "given", "gone"),
        *("got", "grown", "heard", "held", "kept", "known", "left", "lost", "made", "meant", "met", "paid", "put"),
        *(
            "said",
            "seen",
            "sent",
            "set",
            "shown",
            "spent",
            "stood",
            "taken",
            "taught",
            "thought",
            "told",
            "won",
            "written",
        ),
    }
)
_NO_PARTICIPLE = frozenset({"seed", "embed", "need", "speed", "feed"})


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the code base.

    Attributes:
        largest_folder: the folder with the most modules, `__init__.py` not counted, and how many it has.
        median_files: modules per folder, median.
        longest_file: the longest module and its lines.
        comments: comment lines per 100 lines that are not blank.
        blanks: blank lines inside functions, in percent of their lines.
        tuple_assignments: `a, b = x, y` per 1,000 lines.
        participles: assignments to a variable named by a participle, such as `found`, in percent of all.
    """

    largest_folder: tuple[str, int]
    median_files: float
    longest_file: tuple[str, int]
    comments: float
    blanks: float
    tuple_assignments: float
    participles: float


def measure(root: Path) -> Figures:
    """Count the figures of the packages below `root`."""
    files = list(_sources(root))
    folders = Counter(path.parent.relative_to(root).as_posix() for path in files if path.name != "__init__.py")
    lengths = {path.relative_to(root).as_posix(): len(path.read_text().splitlines()) for path in files}
    every = code = comments = inside = blank = tuples = 0
    names: Counter[bool] = Counter()

    for path in files:
        text = path.read_text()
        code += sum(1 for line in text.splitlines() if line.strip())
        every += len(text.splitlines())
        comments += _comment_lines(text)

        tree = ast.parse(text)
        lines, empty = _function_lines(tree, text.splitlines())
        inside += lines
        blank += empty
        tuples += sum(map(_assigns_a_tuple, ast.walk(tree)))
        names.update(map(is_participle, _assigned(tree)))

    return Figures(
        largest_folder=folders.most_common(1)[0],
        # The median of an odd number of counts is an int.
        median_files=float(statistics.median(folders.values())),
        longest_file=max(lengths.items(), key=lambda item: item[1]),
        comments=100 * comments / code,
        blanks=100 * blank / inside,
        tuple_assignments=1000 * tuples / every,
        participles=100 * names[True] / max(names.total(), 1),
    )


def is_participle(name: str) -> bool:
    """Whether a variable's name is a bare past participle, such as `found` or `refused`."""
    word = name.strip("_")
    # A second word says what the thing is: `kept_rows` is fine.
    if word in _NO_PARTICIPLE or "_" in word:
        return False
    return word in _IRREGULAR or (len(word) > 4 and word.endswith("ed"))


def _sources(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if not any(part in path.as_posix() for part in _SKIPPED):
                yield path


def _comment_lines(text: str) -> int:
    """Lines that hold nothing but a comment; directives to linters and type checkers do not count."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        1
        for token in tokens
        if token.type == tokenize.COMMENT
        and token.line.strip().startswith("#")
        and not token.string.startswith(("# noqa", "# type:", "# fmt:", "# pragma"))
    )


def _function_lines(tree: ast.Module, lines: list[str]) -> tuple[int, int]:
    """Lines of functions, and how many of them are blank."""
    total = blank = 0

    for node in _outer_functions(tree):
        span = lines[node.lineno - 1 : node.end_lineno]
        total += len(span)
        blank += sum(1 for line in span if not line.strip())

    return total, blank


def _outer_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from _outer_functions(child)


def _assigns_a_tuple(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and all(isinstance(target, ast.Tuple) for target in node.targets)
    )


def _assigned(tree: ast.Module) -> Iterator[str]:
    """Variables that an assignment, a loop or a `with` binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.house", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="repository (default: the current folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()

    figures = asdict(measure(arguments.root.resolve()))
    if arguments.json:
        print(json.dumps(figures))  # noqa: T201 - what the command is for
        return

    for name, value in figures.items():
        text = f"{value:.1f}" if isinstance(value, int | float) else " ".join(map(str, value))
        print(f"{name.replace('_', ' '):<20} {text}")  # noqa: T201


if __name__ == "__main__":
    main()
