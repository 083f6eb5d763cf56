"""Run the benchmarks and write docs/benchmarks.md from what they printed.

python -m benchmarks                  all of them: hours, most of them the peers of anomaly
python -m benchmarks scoring adult    these; the others' last lines are kept
python -m benchmarks --write          only write the page from the last lines

A section that was not run on this machine stays as the page has it.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
SECTIONS = (
    "anomaly", "explanations", "outliers", "fdr", "bottlenecks", "generation", "likelihood",
    "images", "denoising", "adult", "scoring", "streaming", "footprint", "durability", "threads",
    "budget", "sensors", "recommend", "sparse_codes",
)  # fmt: skip
HEAD = """# Benchmarks

Each section is a module of `benchmarks/`; `python -m benchmarks` runs them all and writes this
page from the lines that they print. Figures were taken on two x86-64 cores (AMD EPYC) that other
jobs share, with the CPU build of torch 2.13.0: ratios within a run mean something, seconds only
beside each other. The data sets are not in the repository; a benchmark that does not find them
says where they come from. A bar is what a figure was asked to reach before it was measured; where
one is missed, the line says so by its figure and the notes below say what was tried.
"""


def run(name: str) -> None:
    """Run one benchmark and keep its lines."""
    print(f"benchmark {name}", file=sys.stderr)
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.jsonl").write_text(done.stdout)


def words(name: str) -> str:
    """What a benchmark's docstring says."""
    return (ROOT / "benchmarks" / f"{name}.py").read_text().split('"""')[1].strip()


def page() -> str:
    """The page: each benchmark's own words, and its lines."""
    parts, held = [HEAD], PAGE.read_text() if PAGE.exists() else ""
    for name in SECTIONS:
        lines = RESULTS / f"{name}.jsonl"
        if not lines.exists() and f"\n## {name}\n" in held:
            kept = held.split(f"\n## {name}\n")[1].split("\n## ")[0]
            parts.append(f"## {name}\n{kept}")
            continue
        said = lines.read_text().strip() if lines.exists() else "(not run)"
        table = RESULTS / f"{name}-adbench.md"
        shown = f"{table.read_text()}\n" if table.exists() else ""
        parts.append(f"## {name}\n\n{words(name)}\n\n{shown}```json\n{said}\n```\n")
    notes = ROOT / "benchmarks" / "notes.md"
    return "\n".join([*parts, notes.read_text()])


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        for section in sys.argv[1:] or SECTIONS:
            run(section)
    PAGE.write_text(page())
