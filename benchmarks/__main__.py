"""Run the benchmarks and write docs/benchmarks.md, with its figure, from what they printed.

python -m benchmarks                  all of them: hours, most of them the peers of anomaly
python -m benchmarks scoring adult    these; the others' last lines are kept
python -m benchmarks --write          only write page and figure from the last lines
"""

import subprocess
import sys

from benchmarks import figure
from benchmarks.page import LINES, PAGE, ROOT, SECTIONS, page


def run(name: str) -> None:
    """Run one benchmark and keep its lines; without its data it prints none, and the last stay."""
    print(f"benchmark {name}", file=sys.stderr)
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.stdout.strip():
        (LINES / f"{name}.jsonl").write_text(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        for section in sys.argv[1:] or SECTIONS:
            run(section)
    PAGE.write_text(page())
    figure.draw()
