"""Does a model outlive kills, and does a hostile one come to nothing? One line of JSON a bar.

    python -m benchmarks.durability [--kills 200] [--mutations 2000] [--seed 0]

Kills: forked children train with a checkpoint and save over an existing bundle, two models in
turn; the parent kills each with SIGKILL at a random moment, reads the bundle, starts the next.
Mutations: bundles broken at random, most of them with checksums counted again as an attacker
would; each must load and score, or be refused by the library's own errors, within a second.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.mutants import mutated
from keyhole import Autoencoder
from keyhole.errors import KeyholeError
from keyhole.nets import MLP
from keyhole.training import Plan, checkpoint

MOST_S = 1.0  # a load and a few scores
MOST_GROWTH_MB = 200
BATCH = 200  # mutations a child meets


# A table with every kind of column, small enough that a fit takes about a second.


def table(rows: int, seed: int = 0) -> pa.Table:
    """Rows with every kind of column, a gap here and there."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    seconds = (rng.random(rows) * 3e7).astype("timedelta64[s]")
    gappy = np.where(rng.random(rows) < 0.1, np.nan, 2 * x + rng.normal(size=rows))
    return pa.table(
        {
            "x": x,
            "gappy": pa.array(gappy, from_pandas=True),
            "skew": np.exp(3 * rng.normal(size=rows)),
            "hurdle": np.where(rng.random(rows) < 0.5, 0.0, x),
            "kind": rng.choice(["red", "green", "blé"], rows),
            "yes": x > 0.3,
            "n": rng.poisson(2, rows),
            "when": (np.datetime64("2020-01-01") + seconds).astype("datetime64[s]"),
            "day": [str(np.datetime64("2020-01-01") + int(d)) for d in rng.integers(0, 900, rows)],
            "const": np.ones(rows),
            "id": [f"row {i}" for i in range(rows)],
        }
    )


# Kills.


def estimator(seed: int, steps: int = 120) -> Autoencoder:
    """The model of a seed."""
    return Autoencoder(
        net=MLP([16]), plan=Plan(steps=steps, batch=64, patience=None), random_state=seed
    )


def kills(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """What `count` kills at random moments of training and saving left behind."""
    torch.set_num_threads(1)
    checkpoint.EVERY_S = 0.0
    draw = random.Random(seed)
    began = time.monotonic()
    data = table(1_200)
    _in_child(lambda: [_fit(data, s, None).save(str(folder / f"reference-{s}")) for s in (0, 1)])
    fit_s = (time.monotonic() - began) / 2
    references = [_weights(folder / f"reference-{s}") for s in (0, 1)]
    path, part = folder / "model", folder / "model.part"
    shutil.copytree(folder / "reference-0", path)
    found: Counter[str] = Counter()
    for kill in range(count):
        saving = bool(kill % 2)
        work = _saves(folder) if saving else _trains(data, folder)
        delay = draw.random() * (0.25 if saving else fit_s)
        found["killed"] += _killed(work, delay)
        found["saving" if saving else "training"] += 1
        try:
            state = Autoencoder.load(str(path)).network_.state_dict()
            found["loaded"] += 1
        except KeyholeError as fault:
            print(json.dumps({"kill": kill, "fault": str(fault)}), file=sys.stderr)
            continue
        held = _weights_of(state)
        found["one_of_the_two"] += held in (_weights_of(_state(folder, s)) for s in (0, 1))
        found["cut_between_renames"] += not path.exists()
    _in_child(lambda: _once(data, folder, 0))  # goes on from the last kill's checkpoint
    ends = (folder / "ends.txt").read_text().split("\n")[:-1]
    _in_child(lambda: Autoencoder.load(str(folder / "reference-0")).save(str(path)))
    left = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    resumed = [line for line in ends if not line.startswith("0 ")]
    return {
        "benchmark": "kills",
        "kills": count,
        "killed": found["killed"],
        "killed_training": found["training"],
        "killed_saving": found["saving"],
        "killed_between_renames": found["cut_between_renames"],
        "bundles_loaded": found["loaded"],
        "bundles_old_or_new": found["one_of_the_two"],
        "runs_ended": len(ends),
        "runs_resumed": len(resumed),
        "resumed_equal": all(line.endswith(" equal") for line in ends),
        "weights_byte_identical": _weights(folder / "resumed-0") == references[0],
        "left_over": len(left) + part.exists(),
        "fit_s": round(fit_s, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def _fit(data: pa.Table, seed: int, part: Path | None, watch: Any = None) -> Autoencoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator(seed).fit(data, checkpoint=part and str(part), watch=watch)


def _trains(data: pa.Table, folder: Path) -> Callable[[], None]:
    """Fits, compares and saves for ever, each run from where the last was killed."""

    def work() -> None:
        while True:
            _once(data, folder, 0)
            _once(data, folder, 1)

    return work


def _once(data: pa.Table, folder: Path, seed: int) -> None:
    steps: list[int] = []
    model = _fit(data, seed, folder / f"run-{seed}.part", lambda event: steps.append(event.step))
    same = _weights_of(model.network_.state_dict()) == _weights_of(_state(folder, seed))
    with open(folder / "ends.txt", "a") as file:
        file.write(f"{steps[0]} {'equal' if same else 'UNEQUAL'}\n")
    if seed == 0:
        model.save(str(folder / "resumed-0"))
    model.save(str(folder / "model"))


def _saves(folder: Path) -> Callable[[], None]:
    """Saves two models in turn over one path, for ever."""

    def work() -> None:
        models = [Autoencoder.load(str(folder / f"reference-{s}")) for s in (0, 1)]
        while True:
            for model in models:
                model.save(str(folder / "model"))

    return work


def _killed(work: Callable[[], None], delay_s: float) -> bool:
    """True where the child worked on until it was killed."""
    pid = _forked(work)
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def _in_child(work: Callable[[], Any]) -> None:
    _, status = os.waitpid(_forked(work), 0)
    if status:
        raise SystemExit(f"a child failed with status {status}")


def _forked(work: Callable[[], Any]) -> int:
    """A child that starts warm: importing torch takes longer than the work."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as fault:
        print(f"child: {type(fault).__name__}: {fault}", file=sys.stderr, flush=True)
        os._exit(1)


def _state(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    return Autoencoder.load(str(folder / f"reference-{seed}")).network_.state_dict()


def _weights_of(state: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def _weights(path: Path) -> bytes:
    return (path / "weights.safetensors").read_bytes()


# Mutations.


def mutations(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """How `count` broken bundles were met; forked children meet them, so a crash is seen."""
    torch.set_num_threads(1)
    began = time.monotonic()
    bases = [folder / f"base-{i}" for i in (0, 1)]
    for base, rows in zip(bases, (1_200, 300), strict=True):  # one net, and five side by side
        _in_child(lambda base=base, rows=rows: _fit(table(rows), 0, None).save(str(base)))
    data = table(8)
    rows = pa.concat_tables([data, pa.table({f.name: pa.nulls(1, f.type) for f in data.schema})])
    for base in bases:
        asked(base, rows)  # what is loaded on first use is loaded now
    met: list[dict[str, Any]] = []
    while len(met) < count:
        work = _meets(range(len(met), min(len(met) + BATCH, count)), seed, folder, bases, rows)
        _, status = os.waitpid(_forked(work), 0)
        met = _lines(folder / "met.jsonl")
        if status:
            crash = f"crashed with status {status}"
            _note(folder, {"said": (folder / "now").read_text(), "how": crash, "s": 0, "mb": 0})
            met = _lines(folder / "met.jsonl")
    for line in met:
        if not _met_well(line):
            print(json.dumps(line, ensure_ascii=False), file=sys.stderr)
    how, times = Counter(line["how"] for line in met), [line["s"] for line in met]
    return {
        "benchmark": "mutations",
        "mutations": count,
        "refused": how["refused"],
        "answered": how["answered"],
        "rows_refused": how["rows refused"],
        "other_errors_or_slow": sum(not _met_well(line) for line in met),
        "with_warnings": sum(line.get("warned", False) for line in met),
        "median_ms": round(1e3 * float(np.median(times)), 1),
        "slowest_ms": round(1e3 * max(times), 1),
        "memory_growth_mb": max(line["mb"] for line in met),
        "seconds": round(time.monotonic() - began, 1),
    }


def meet(path: Path, rows: pa.Table) -> dict[str, Any]:
    """How a bundle was met, in how many seconds, and by how many MB the process grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            how = asked(path, rows)
        except Exception as fault:
            how = f"{type(fault).__name__}: {fault!s:.160}"
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return {"how": how, "s": seconds, "mb": grown, "warned": bool(warned)}


def asked(path: Path, rows: pa.Table) -> str:
    """Whether a bundle was refused, and if not, whether the rows were."""
    try:
        model = Autoencoder.load(str(path))
    except KeyholeError:
        return "refused"
    try:
        model.score_samples(rows)
        model.inverse_transform(np.stack(model.transform(rows).columns, 1))
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
    return known and line["s"] <= MOST_S and line["mb"] <= MOST_GROWTH_MB


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
