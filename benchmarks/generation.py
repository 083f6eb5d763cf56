"""Generated rows compared with real ones: three priors on three tables, and peers on Adult.

    python -m benchmarks.generation [--sets adult 6_cardio breast_cancer] [--seeds 3]

Each table is split into halves: training and held out. `Generator` is fitted once for each seed
with its defaults. Then a normal, a mixture and a diffusion prior are fitted to its codes.
`keyhole.tasks.judge` makes five judgements; usefulness is for the label.

`real rows` shows how good rows can be: half of the held-out rows, judged as if they were
generated. On Adult (10,000 generated rows) the peers are blended neighbours as in SMOTE, a
Gaussian copula, and CTGAN's TVAE with its defaults, in an environment and process of its own. The
line "priors" has means over seeds.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks import peers
from benchmarks.common import data, emit
from keyhole import Generator
from keyhole.model.priors import Diffusion, Mixture, Normal
from keyhole.tasks import judge

ROWS = {"adult": 10_000, "6_cardio": 2_000, "breast_cancer": 1_000}
TARGET = {"adult": "salary", "6_cardio": "anomaly", "breast_cancer": "target"}
MOST_SECONDS = 3_600
PRIORS = (Normal, Mixture, Diffusion)
Maker = Callable[[pd.DataFrame, int, int], pd.DataFrame]


def table(name: str) -> pd.DataFrame:
    """A set as a frame."""
    if name == "adult":
        return pd.read_csv(data("adult") / "adult.csv", skipinitialspace=True)
    if name == "breast_cancer":
        from sklearn.datasets import load_breast_cancer

        held: Any = load_breast_cancer(as_frame=True)
        return held.frame
    held = np.load(data("adbench") / f"{name}.npz")
    frame = pd.DataFrame(held["X"], columns=[f"x{i}" for i in range(held["X"].shape[1])])
    return frame.assign(anomaly=held["y"].astype(int))


def halves(name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out rows, as many of each."""
    whole = table(name)
    order = np.random.default_rng(seed).permutation(len(whole))
    half = len(whole) // 2
    return whole.iloc[np.sort(order[:half])], whole.iloc[np.sort(order[half : 2 * half])]


def keyhole_rows(
    frame: pd.DataFrame, n: int, seed: int
) -> Iterator[tuple[str, pd.DataFrame, float]]:
    """A prior's name, the rows it makes, and the seconds it took beyond the one fit."""
    first = Generator(prior=Normal(), random_state=seed)
    began = time.perf_counter()
    first.fit(frame)
    print(f"fit {time.perf_counter() - began:.0f} s", file=sys.stderr)
    for prior in PRIORS:
        began = time.perf_counter()
        made = Generator.from_fitted(
            first.autoencoder_, prior=prior(), rows=frame, random_state=seed
        )
        rows = made.sample(n)
        yield prior.kind, rows, time.perf_counter() - began


def makers(epochs: int) -> dict[str, Maker]:
    """The peers by name: each takes the training rows, how many to make, and a seed."""
    return {
        "smote_like": peers.smote_like,
        "gaussian_copula": peers.gaussian_copula,
        "ctgan_tvae": partial(peers.ctgan_tvae, seconds=MOST_SECONDS, epochs=epochs),
    }


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def report(
    name: str, method: str, real: tuple[pd.DataFrame, pd.DataFrame], made: pd.DataFrame,
    seed: int, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One line of JSON for the rows that a method made."""
    train, held_out = real
    found = judge(arrow(train), arrow(held_out), arrow(made), target=TARGET[name], seed=seed)
    said = {"set": name, "method": method, "seed": seed, **more, **made.attrs, **asdict(found)}
    emit("generation", **said)
    return said


def one_seed(name: str, seed: int, epochs: int) -> list[dict[str, Any]]:
    """All methods on one set and seed."""
    real = halves(name, seed)
    half = len(real[1]) // 2
    mixed = real[1].sample(frac=1, random_state=seed)
    report(name, "real rows", (real[0], mixed[:half]), mixed[half:], seed)
    found = []
    for kind, made, seconds in keyhole_rows(real[0], ROWS[name], seed):
        found.append(report(name, f"keyhole {kind}", real, made, seed, seconds=seconds))
    for method, make in makers(epochs).items() if name == "adult" and seed == 0 else ():
        began = time.perf_counter()
        made = make(real[0], ROWS[name], seed)
        report(name, method, real, made, seed, seconds=time.perf_counter() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--epochs", type=int, default=300, help="of TVAE")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    for name in asked.sets:
        found = [
            line for seed in range(asked.seeds) for line in one_seed(name, seed, asked.epochs)
        ]
        means: dict[str, dict[str, float]] = {}
        for method in dict.fromkeys(line["method"] for line in found):
            lines = [line for line in found if line["method"] == method]
            means[method] = {
                key: float(np.mean([line[key] for line in lines]))
                for key in ("c2st_auc", "shape_error", "trend_error", "closer_share")
            }
        emit("generation", set=name, line="priors", seeds=asked.seeds, means=means)


if __name__ == "__main__":
    main()
