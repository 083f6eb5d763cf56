"""Does a model survive kills, and does a hostile file do no harm? One line of JSON for each bar.

    python -m benchmarks.durability [--kills 200] [--mutations 2000] [--seed 0]

*Kills*: child processes train with a checkpoint and save over an existing model, two models in
turn. The parent kills each child with SIGKILL at a random moment, reads the model, and starts the
next child.

*Mutations*: models broken at random, most with a recomputed checksum, as an attacker would do.
Each must either load and score, or be refused by one of keyhole's errors, within a second.
"""

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.kills import fit, forked, in_child, kills, table
from benchmarks.mutants import mutated
from keyhole import AnomalyDetector
from keyhole.errors import KeyholeError
from keyhole.tasks import Impute

MAX_S = 3.0  # of the processor, for a load: other jobs may share it
MOST_WALL_S = 10.0  # nothing waits, on a pipe say
MOST_GROWTH_MB = 200
BATCH = 200  # mutations a child meets


def mutations(
    count: int, seed: int, folder: Path, bases: list[Path] | None = None
) -> dict[str, Any]:
    """How `count` broken models were met; forked children meet them, so a crash is seen."""
    torch.set_num_threads(1)
    began = time.monotonic()
    if bases is None:  # one net, and five side by side
        bases = [folder / f"base-{rows}" for rows in (1_200, 300)]
        for base in bases:
            rows = int(base.name.split("-")[1])
            in_child(lambda base=base, rows=rows: watched(rows).save(str(base)))
    data = table(8)
    rows = pa.concat_tables([data, pa.table({f.name: pa.nulls(1, f.type) for f in data.schema})])
    for base in bases:
        meet(base, rows)  # what is loaded on first use is loaded now
    met: list[dict[str, Any]] = []
    while len(met) < count:
        work = _meets(range(len(met), min(len(met) + BATCH, count)), seed, folder, bases, rows)
        _, status = os.waitpid(forked(work), 0)
        met = _lines(folder / "met.jsonl")
        if status:
            crash = f"crashed with status {status}"
            _note(
                folder,
                {
                    "said": (folder / "now").read_text(),
                    "how": crash,
                    "cpu_s": 0,
                    "wall_s": 0,
                    "mb": 0,
                },
            )
            met = _lines(folder / "met.jsonl")
    for line in met:
        if not _met_well(line):
            print(json.dumps(line, ensure_ascii=False), file=sys.stderr)
    how = Counter(line["how"] for line in met)
    return {
        "benchmark": "mutations",
        "mutations": count,
        "refused": how["refused"],
        "answered": how["answered"],
        "rows_refused": how["rows refused"],
        "other_errors_or_slow": sum(not _met_well(line) for line in met),
        "with_warnings": sum(line.get("warned", False) for line in met),
        "median_ms": round(1e3 * float(np.median([line["wall_s"] for line in met])), 1),
        "slowest_ms": round(1e3 * max(line["wall_s"] for line in met), 1),
        "slowest_cpu_ms": round(1e3 * max(line["cpu_s"] for line in met), 1),
        "memory_growth_mb": max(line["mb"] for line in met),
        "seconds": round(time.monotonic() - began, 1),
    }


def meet(path: Path, rows: pa.Table) -> dict[str, Any]:
    """How a model was met, in how many seconds it loaded, and by how many MB the process grew.

    Answers are not timed: drawing rows fits a prior where there is none.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, how = None, "refused"
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with suppress(KeyholeError):
                model = AnomalyDetector.load(str(path))
            cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - start
            if model is not None:
                how = asked(model, rows)
        except Exception as fault:
            cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - start
            how = f"{type(fault).__name__}: {fault!s:.160}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return {"how": how, "cpu_s": cpu_s, "wall_s": wall_s, "mb": grown, "warned": bool(warned)}


def watched(rows: int) -> AnomalyDetector:
    """A detector after a few steps: its file holds rows beside the weights."""
    return AnomalyDetector.from_fitted(fit(table(rows), 0, 120), false_alarm_rate=0.05)


def asked(model: AnomalyDetector, rows: pa.Table) -> str:
    """Whether a loaded model answers, or refuses the rows."""
    try:
        model.answer(rows, explain_rows="all")
        coded = model.autoencoder_
        coded.inverse_transform(np.stack(coded.transform(rows).columns, 1))
        Impute(coded).answer(rows)
        Impute(coded, draws=2).answer(rows)
        if coded.model_.prior is not None:  # else one is fitted first, which takes seconds
            coded.sample(8)
    except KeyholeError:
        return "rows refused"
    return "answered"


def _meets(
    places: range, seed: int, folder: Path, bases: list[Path], rows: pa.Table
) -> Callable[[], None]:
    def work() -> None:
        for place in places:
            draw = random.Random(f"{seed} {place}")
            said = mutated(folder / "mutant", draw.choice(bases), draw)
            (folder / "now").write_text(f"{place} {said}")
            _note(folder, {"said": f"{place} {said}", **meet(folder / "mutant", rows)})

    return work


def _met_well(line: dict[str, Any]) -> bool:
    known = line["how"] in {"refused", "answered", "rows refused"}
    quick = line["cpu_s"] <= MAX_S and line["wall_s"] <= MOST_WALL_S
    return known and quick and line["mb"] <= MOST_GROWTH_MB


def _note(folder: Path, line: dict[str, Any]) -> None:
    with open(folder / "met.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Print a line of JSON for each bar; exit code 1 where one was not reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--mutations", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    reached = True
    for bar, count in ((kills, given.kills), (mutations, given.mutations)):
        if count:
            with tempfile.TemporaryDirectory(prefix="keyhole-durability-") as folder:
                line = bar(count, given.seed, Path(folder))
            print(json.dumps(line), flush=True)
            reached = reached and held(line)
    sys.exit(0 if reached else 1)


def held(line: dict[str, Any]) -> bool:
    """True where the bar was reached."""
    if line["benchmark"] == "mutations":
        return line["other_errors_or_slow"] == 0
    whole = line["bundles_loaded"] == line["bundles_old_or_new"] == line["killed"] == line["kills"]
    same = line["resumed_equal"] and line["weights_byte_identical"]
    return whole and same and line["left_over"] == 0


if __name__ == "__main__":
    main()
