"""Writes the table of docs/bottlenecks.md from the bottlenecks themselves; a test compares.

What stands around the table is written by hand in the page. Measured figures come from
benchmarks/results/bottlenecks.json where there is one, else they stay as they are in the page.
"""

import inspect
import json
from pathlib import Path

from keyhole.model.bottlenecks import Bottleneck
from keyhole.core.parts import kinds

PAGE = Path(__file__).with_name("bottlenecks.md")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "bottlenecks.json"
PARTS = ("table", "figures")  # of the page, each between <!-- part --> and <!-- /part -->
TABLES = ("digits", "satellite")  # that figures are measured on


def rows() -> str:
    """One row a bottleneck: kind, what it is for, arguments, formula, source."""
    lines = ["| kind | what it is for | arguments | formula | source |", "|---|---|---|---|---|"]
    for kind, made in sorted(kinds("bottleneck").items()):
        assert issubclass(made, Bottleneck)
        cells = (f"`{kind}`", made.purpose, _arguments(made), f"`{made.formula}`", made.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def figures(results: dict, before: str) -> str:
    """One row a bottleneck that was measured; without results, what stood there before."""
    names = [(table, name) for table in TABLES for name in _names(results, table)]
    if not names:
        return before
    lines = ["| kind | " + " | ".join(f"{table}: {name}" for table, name in names) + " |"]
    lines.append("|---|" + "---:|" * len(names))
    for kind in sorted(results):
        found = (results[kind].get(table, {}).get(name) for table, name in names)
        lines.append(f"| `{kind}` | " + " | ".join(map(_said, found)) + " |")
    return "\n".join(lines)


def page() -> str:
    """The page with its parts made anew."""
    text = PAGE.read_text()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    text = _put(text, "table", rows())
    return _put(text, "figures", figures(results, part(text, "figures")))


def part(text: str, name: str) -> str:
    """What stands in a part of the page."""
    return text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]


def _put(text: str, name: str, made: str) -> str:
    start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, rest = text.split(start)
    return before + start + made + end + rest.split(end)[1]


def _arguments(made: type) -> str:
    said = inspect.signature(made).parameters.values()
    return ", ".join(f"`{argument.name}={argument.default!r}`" for argument in said)


def _names(results: dict, table: str) -> list[str]:
    return list(dict.fromkeys(name for held in results.values() for name in held.get(table, {})))


def _said(figure: object) -> str:
    return "" if figure is None else f"{figure:.3g}" if isinstance(figure, float) else str(figure)


if __name__ == "__main__":
    PAGE.write_text(page())
