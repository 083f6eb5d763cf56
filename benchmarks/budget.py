"""Does a fit end within its time budget while another process uses a core?

    python -m benchmarks.budget [--budgets 30 60 120]

The command line fits 20,000 rows of 18 columns for detection, and an image for denoising, next to
a busy process. The time is from the start to the written model and page. The shortest budget is
also tried for sampling and for twenty large images. Bar: at most 1.15 times the budget.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.common import emit

ROWS = 20_000
MANY, LARGE = 20, 1_000  # images, and pixels of their sides
MOST_RATIO = 1.15
SPIN = "while True: pass"


def write_rows(path: Path) -> None:
    """A table of sixteen numbers, a category and a count."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(ROWS, 5)) @ rng.normal(size=(5, 16))
    numbers = causes + 0.3 * rng.normal(size=(ROWS, 16))
    columns = {f"x{i}": numbers[:, i] for i in range(16)}
    columns |= {"level": rng.choice(list("abcd"), ROWS), "count": rng.poisson(3, ROWS)}
    pa.csv.write_csv(pa.table(columns), path)


def write_image(path: Path, side: int = 256, seed: int = 0) -> None:
    """A smooth image with Gaussian noise."""
    rng = np.random.default_rng(seed)
    clean = np.cumsum(np.cumsum(rng.normal(size=(side, side)), 0), 1)
    np.save(path, (clean / clean.std() * 5 + rng.normal(size=clean.shape)).astype(np.float32))


def fit(data: Path, out: Path, budget: float, task: str) -> bool:
    """Print a line for one fit; True where it reached the bar."""
    command = [sys.executable, "-m", "keyhole", "fit", str(data), "-o", str(out), "--quiet",
               "--force", "--for", task, "--time-budget", f"{budget:g}"]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    emit("budget", task=task, data=data.name, budget_s=budget,
         seconds=seconds, ratio=seconds / budget,
         model_written=done.returncode == 0 and out.exists(),
         bar=f"at most {MOST_RATIO}")  # fmt: skip
    return done.returncode == 0 and seconds <= MOST_RATIO * budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=float, nargs="+", default=[30.0, 60.0, 120.0])
    budgets = sorted(parser.parse_args().budgets)
    spinner = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        with tempfile.TemporaryDirectory(prefix="keyhole-budget-") as name:
            folder = Path(name)
            write_rows(folder / "rows.csv")
            write_image(folder / "image.npy")
            reached = [fit(folder / "rows.csv", folder / "m", b, "detect") for b in budgets]
            reached.append(fit(folder / "rows.csv", folder / "s", budgets[0], "sample"))
            reached += [fit(folder / "image.npy", folder / "d", b, "denoise") for b in budgets]
            (folder / "many").mkdir()
            for place in range(MANY):
                write_image(folder / "many" / f"{place:02}.npy", LARGE, place)
            reached.append(fit(folder / "many", folder / "e", budgets[0], "denoise"))
    finally:
        spinner.kill()
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
