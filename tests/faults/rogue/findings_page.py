"""The page of attacks: `python tests/faults/rogue/findings_page.py --write docs/reference/attacks.md`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

if __name__ == "__main__":  # as a command; pytest finds the package by its settings
    sys.path[:0] = [str(Path(__file__).parents[1])]

from rogue.findings import ALL

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "attacks.md"
_HEAD = """# Attacks covered by tests

These are attacks by somebody who has the keys of one enrolled hospital. Each is a test. The tests in
[`test_rogue.py`](../../tests/faults/test_rogue.py) run whole campaigns in one process, those in
[`test_real_faults.py`](../../tests/integration/test_real_faults.py) run real processes (`make soak`), and the others
run one part. The column "named" says which site the coordinator's record names.

Made by `python tests/faults/rogue/findings_page.py --write docs/reference/attacks.md`.

| finding | attack | outcome | named | tests |
|---|---|---|---|---|
"""


def page() -> str:
    """Markdown."""
    rows = []
    for one in ALL:
        links = ", ".join(f"[{_name(test)}](../../tests/{test.split('::')[0]})" for test in one.tests)
        rows.append(f"| {one.finding} | {one.what} | {one.outcome} | {one.named} | {links} |")

    return _HEAD + "\n".join(rows) + "\n"


def _name(test: str) -> str:
    file, _, function = test.partition("::")
    return (function.removeprefix("test_") or Path(file).stem.removeprefix("test_")).replace("_", " ")


def missing() -> list[str]:
    """Tests that do not exist."""
    gone = []
    for test in (test for one in ALL for test in one.tests):
        file, _, function = test.partition("::")
        path = ROOT / "tests" / file
        if not path.exists() or not re.search(rf"def {function}\(" if function else "def test_", path.read_text()):
            gone.append(test)

    return gone


def main() -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, default=None)
    asked = parser.parse_args()
    if asked.write is None:
        sys.stdout.write(page())
    else:
        asked.write.write_text(page())


if __name__ == "__main__":
    main()
