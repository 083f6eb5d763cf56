"""Kills at random moments of training and saving, and what remains afterwards."""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from keyhole import Autoencoder
from keyhole.errors import KeyholeError
from keyhole.model.nets import MLP
from keyhole.training import TrainingConfig, checkpoint


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


def estimator(seed: int, steps: int = 120) -> Autoencoder:
    """The model of a seed."""
    return Autoencoder(
        net=MLP([16]),
        training=TrainingConfig(steps=steps, batch=64, patience=None),
        random_state=seed,
    )


def kills(count: int, seed: int, folder: Path, steps: int = 120) -> dict[str, Any]:
    """What `count` kills at random moments of training and saving left behind."""
    torch.set_num_threads(1)
    checkpoint.EVERY_S = 0.0
    draw = random.Random(seed)
    began = time.monotonic()
    data = table(1_200)
    fit(data, 2, steps)  # what is loaded on first use is loaded now: children start warm
    warm = time.monotonic()
    in_child(lambda: [fit(data, s, steps).save(str(folder / f"reference-{s}")) for s in (0, 1)])
    fit_s = (time.monotonic() - warm) / 2
    references = [_weights(folder / f"reference-{s}") for s in (0, 1)]
    path = folder / "model"
    shutil.copyfile(folder / "reference-0", path)
    found: Counter[str] = Counter()
    for kill in range(count):
        saving = bool(kill % 2)
        work = _saves(folder) if saving else _trains(data, folder, steps)
        delay = draw.random() * (0.25 if saving else fit_s)
        found["killed"] += _killed(work, delay)
        found["saving" if saving else "training"] += 1
        try:
            state = Autoencoder.load(str(path)).model_.network.state_dict()
            found["loaded"] += 1
        except KeyholeError as fault:
            print(json.dumps({"kill": kill, "fault": str(fault)}), file=sys.stderr)
            continue
        held = _weights_of(state)
        found["one_of_the_two"] += held in (_weights_of(_state(folder, s)) for s in (0, 1))
    in_child(lambda: _once(data, folder, 0, steps))  # goes on from the last kill's checkpoint
    ends = (folder / "ends.txt").read_text().split("\n")[:-1]
    in_child(lambda: Autoencoder.load(str(folder / "reference-0")).save(str(path)))
    left = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    resumed = [line for line in ends if not line.startswith("0 ")]
    return {
        "benchmark": "kills",
        "kills": count,
        "killed": found["killed"],
        "killed_training": found["training"],
        "killed_saving": found["saving"],
        "bundles_loaded": found["loaded"],
        "bundles_old_or_new": found["one_of_the_two"],
        "runs_ended": len(ends),
        "runs_resumed": len(resumed),
        "resumed_equal": all(line.endswith(" equal") for line in ends),
        "weights_byte_identical": _weights(folder / "resumed-0") == references[0],
        "left_over": len(left),
        "fit_s": round(fit_s, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def fit(
    data: pa.Table, seed: int, steps: int, part: Path | None = None, on_evaluate: Any = None
) -> Autoencoder:
    """The model of a seed, fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator(seed, steps).fit(
            data, checkpoint=part and str(part), on_evaluate=on_evaluate
        )


def _trains(data: pa.Table, folder: Path, steps: int) -> Callable[[], None]:
    """Fits, compares and saves for ever, each run from where the last was killed."""

    def work() -> None:
        while True:
            _once(data, folder, 0, steps)
            _once(data, folder, 1, steps)

    return work


def _once(data: pa.Table, folder: Path, seed: int, steps: int) -> None:
    met: list[int] = []
    part = folder / f"run-{seed}.part"
    model = fit(data, seed, steps, part, lambda event: met.append(event.step))
    same = _weights_of(model.model_.network.state_dict()) == _weights_of(_state(folder, seed))
    with open(folder / "ends.txt", "a") as file:
        file.write(f"{met[0]} {'equal' if same else 'UNEQUAL'}\n")
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
    pid = forked(work)
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def in_child(work: Callable[[], Any]) -> None:
    """Work done in a child, waited for."""
    _, status = os.waitpid(forked(work), 0)
    if status:
        raise SystemExit(f"a child failed with status {status}")


def forked(work: Callable[[], Any], most_s: int = 240) -> int:
    """A child that starts warm: importing torch takes longer than the work.

    It ends by itself after `most_s` seconds: a child that hangs must not outlive who waits for it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of threads: it has none that it needs
        pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest has a handler of its own
        signal.alarm(most_s)
        work()
        os._exit(0)
    except BaseException as fault:
        print(f"child: {type(fault).__name__}: {fault}", file=sys.stderr, flush=True)
        os._exit(1)


def _state(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    return Autoencoder.load(str(folder / f"reference-{seed}")).model_.network.state_dict()


def _weights_of(state: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def _weights(path: Path) -> str:
    return _weights_of(load_file(path))
