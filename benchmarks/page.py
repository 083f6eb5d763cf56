"""docs/benchmarks.md: what each benchmark says of itself, and its lines as tables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINES = ROOT / "docs" / "benchmarks"  # NAME.jsonl: what a benchmark printed when it ran last
PAGE = ROOT / "docs" / "benchmarks.md"
SECTIONS = (
    "anomaly", "anomaly_made", "explanations", "outliers", "fdr", "bottlenecks", "generation",
    "likelihood", "images", "denoising", "adult", "scoring", "streaming", "footprint",
    "durability", "threads", "budget", "sensors", "recommend", "sparse_codes",
)  # fmt: skip
HEAD = """# Benchmarks

Each section is a module of `benchmarks/`. `python -m benchmarks` runs them all and writes this
page. The lines that they printed are in files beside it, one JSON object a line; the tables show
the same figures.

Figures were taken on two x86-64 cores (AMD EPYC) that other jobs share, with the CPU build of
torch 2.13.0. Ratios within a run mean something, seconds only beside each other. The data sets
are not in the repository; a benchmark that does not find them says where they come from. A bar is
what a figure had to reach, written down before it was measured. Where one is missed, the line
shows it, and the notes below say what was tried.

![Mean AUROC and AP of keyhole and of PyOD's detectors](images/benchmarks.svg)
*Anomalies in 22 tables, means over tables. The bar of a method is the 95 % interval of its paired
difference from keyhole (dashed line), over bootstrap draws of tables: where it does not reach the
line, the methods differ. Figures in the first section.*
"""
MOST_COLUMNS = 9  # of a table with a line a row; wider ones have a figure a row
MOST_LINES = 8  # of one that has a figure a row
MOST_TEXT = 160  # characters of a cell
NAMES = ("benchmark", "line", "set", "method", "kind", "what", "way", "protocol", "case", "seed")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name in SECTIONS:
        parts.append(f"## {name}\n\n{words(name)}\n\n{figures(name)}")
    return "\n".join([*parts, (ROOT / "benchmarks" / "notes.md").read_text()])


def figures(name: str) -> str:
    """The tables of a benchmark, and where its lines are."""
    lines = lines_of(name)
    if not lines:
        return "(not run)\n"
    return f"JSON lines: [{name}.jsonl](benchmarks/{name}.jsonl)\n\n{tables(lines)}"


def words(name: str) -> str:
    """What a benchmark's docstring says."""
    return (ROOT / "benchmarks" / f"{name}.py").read_text().split('"""')[1].strip()


def lines_of(name: str) -> list[dict[str, Any]]:
    """What a benchmark printed when it ran last; nothing if it never did."""
    path = LINES / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tables(lines: list[dict[str, Any]]) -> str:
    """The lines of a benchmark as tables: one for all lines that have the same figures."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for line in lines:
        row = dict(flat(line))
        groups.setdefault((row["benchmark"], *row), []).append(row)
    return "\n".join(table(part) for group in groups.values() for part in split(group))


def split(rows: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """The rows, or parts of them, if a table has a figure a row and would be too wide."""
    if len(varying(rows)) <= MOST_COLUMNS:
        return [rows]
    return [rows[start : start + MOST_LINES] for start in range(0, len(rows), MOST_LINES)]


def table(rows: list[dict[str, str]]) -> str:
    """Rows with the same figures as one table; what is the same in all stands above it."""
    columns = varying(rows)
    if len(columns) > MOST_COLUMNS:
        columns = [name for name in rows[0] if name in columns or name not in NAMES]
    same = [f"{name}: {rows[0][name]}" for name in rows[0] if name not in columns]
    caption = f"**{same[0].removeprefix('benchmark: ')}**" + "".join(
        f"; {text}" for text in same[1:]
    )
    cells = [[row[name] for name in columns] for row in rows]
    if len(columns) <= MOST_COLUMNS:
        return f"{caption}\n\n{markdown(columns, cells)}"
    names = [name for name in columns if name in NAMES]
    figures = [name for name in columns if name not in NAMES]
    head = ["figure", *(" ".join(row[name] for name in names) or "value" for row in rows)]
    return f"{caption}\n\n{markdown(head, [[f, *(row[f] for row in rows)] for f in figures])}"


def varying(rows: list[dict[str, str]]) -> list[str]:
    """The columns of a table: all of a single line but its names; else those that differ."""
    if len(rows) == 1:
        return [name for name in rows[0] if name not in NAMES]
    return [name for name in rows[0] if name == "method" or len({row[name] for row in rows}) > 1]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; columns of figures stand to the right."""
    right = [all(row[place][:1] in "-.0123456789" for row in rows) for place in range(len(head))]
    lines = [head, ["---:" if figures else "---" for figures in right], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The figures of a line, records in records under joined names."""
    for key, value in record.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}".replace("|", "/"), shown(value)


def shown(value: Any) -> str:
    """A value as the text of a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} records, in the file"
    if isinstance(value, list):
        value = ", ".join(shown(item) for item in value)
    text = f"{value:,}" if isinstance(value, int) else str(value)
    text = text.replace("|", "/").replace("\n", " ")
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."
