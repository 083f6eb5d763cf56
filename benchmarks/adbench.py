"""Anomalies in the ADBench tables, one default for all, beside the peers in the same run.

*Contaminated*: fit on all rows without labels, score the same rows. *Clean*: fit on a random half
of the normal rows, score the other half and all anomalies. Sets of more than 10,000 rows are cut
to 10,000 by a seeded stratified subsample; peers get columns standardised on the training rows.
Bars: mean AUROC/AP at least .84/.60 clean and .70/.28 contaminated.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from benchmarks.common import data, emit
from keyhole import Autoencoder

MOST_ROWS = 10_000
Score = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def keyhole(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    return -Autoencoder(random_state=seed).fit(train).score_samples(test)


def forest(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    scaler = StandardScaler().fit(train)
    found = IsolationForest(random_state=seed).fit(scaler.transform(train))
    return -found.score_samples(scaler.transform(test))


def pyod(kind: Callable[..., Any]) -> Score:
    def score(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        scaler = StandardScaler().fit(train)
        torch.manual_seed(seed)
        found = kind().fit(scaler.transform(train))
        return found.decision_function(scaler.transform(test))

    return score


def peers() -> dict[str, Score]:
    found: dict[str, Score] = {"keyhole": keyhole, "IForest": forest}
    try:
        from pyod.models.auto_encoder import AutoEncoder
        from pyod.models.knn import KNN
    except ImportError:
        return found
    return found | {"PyOD KNN": pyod(KNN), "PyOD AutoEncoder": pyod(AutoEncoder)}


def cut(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= MOST_ROWS:
        return x, y
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(y == level) for level in (0, 1)]
    kept = [rng.choice(r, max(1, round(MOST_ROWS * len(r) / len(y))), replace=False) for r in rows]
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows]


def splits(y: np.ndarray, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    train, whole = normal[: len(normal) // 2], np.arange(len(y))
    return {"contaminated": (whole, whole), "clean": (train, np.setdiff1d(whole, train))}


def one_set(path: Path, seed: int, methods: dict[str, Score]) -> dict[str, Any]:
    held = np.load(path, allow_pickle=False)
    x, y = cut(held["X"].astype(float), held["y"].astype(int).ravel())
    found: dict[str, Any] = {}
    for protocol, (train, test) in splits(y, seed).items():
        for name, score in methods.items():
            began = time.process_time()
            surprise = np.nan_to_num(score(x[train], x[test], seed))
            seconds = time.process_time() - began
            truth = y[test]
            pair = (roc_auc_score(truth, surprise), average_precision_score(truth, surprise))
            found[f"{protocol} {name}"] = (*pair, seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="of .npz files with X and y")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only-keyhole", action="store_true")
    asked = parser.parse_args()
    methods = {"keyhole": keyhole} if asked.only_keyhole else peers()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    paths = sorted((asked.folder or data("adbench")).glob("*.npz"))
    for seed in range(asked.seeds):
        sets = {path.stem: one_set(path, seed, methods) for path in paths}
        for protocol in ("contaminated", "clean"):
            for name in methods:
                each = np.array([found[f"{protocol} {name}"] for found in sets.values()])
                emit(
                    "adbench", protocol=protocol, method=name, seed=seed, sets=len(sets),
                    auroc=each[:, 0].mean(), ap=each[:, 1].mean(), cpu_seconds=each[:, 2].sum(),
                    worst={s: f[f"{protocol} {name}"][0] for s, f in
                           sorted(sets.items(), key=lambda i: i[1][f"{protocol} {name}"][0])[:3]},
                    bar={"contaminated": "0.70/0.28", "clean": "0.84/0.60"}[protocol],
                )  # fmt: skip


if __name__ == "__main__":
    main()
