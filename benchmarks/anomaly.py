"""Anomalies in ADBench's tables without labels: one default against PyOD's detectors.

    python -m benchmarks.anomaly [--folder FOLDER_OF_NPZ] [--seeds 3] [--methods keyhole KNN ...]

There are two protocols. *Contaminated*: fit on all rows without labels, and score the same rows.
*Clean*: fit on a random half of the normal rows, and score the other half and all anomalies.

Sets of more than 10,000 rows are reduced to 10,000 by a seeded stratified sample. The peers use
their own defaults, on columns standardised by the training rows.

Each fit runs in a process of its own, with one thread and 120 seconds of CPU time. The CPU time
includes imports (about 2 s for each fit of a deep method) and the compilation of HBOS. A mean is
over the sets that a method finished. Ranks count an unfinished set as last.

Bars: in each protocol, means at least those of the best peer (stretch: .01 and .02 above), and the
best mean rank; CPU time at most that of VAE; false alarms inside their interval in 97 %.
"""

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from benchmarks import table
from benchmarks.common import RESULTS, data, emit, rounded

MAX_ROWS = 10_000
MOST_SECONDS = 120
RATES = (0.01, 0.05, 0.10)
PROTOCOLS = ("clean", "contaminated")
PEERS = {
    "AutoEncoder": "auto_encoder", "VAE": "vae", "DeepSVDD": "deep_svdd", "PCA": "pca",
    "ECOD": "ecod", "COPOD": "copod", "HBOS": "hbos", "LOF": "lof", "KNN": "knn",
    "IForest": "iforest", "MCD": "mcd",
}  # fmt: skip
SEEDED = {"AutoEncoder", "VAE", "DeepSVDD", "PCA", "IForest", "MCD"}


def keyhole(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    from keyhole import AnomalyDetector

    detector = AnomalyDetector(random_state=seed).fit(train)
    anomaly_score = -detector.score_samples(test)
    p_value = detector.calibration_.p_value(anomaly_score)
    more = {
        "calibrated_on": len(detector.calibration_.anomaly_scores),
        "apart": detector.contamination_,
        "alarms": {str(rate): p_value <= rate * (1 + 1e-12) for rate in RATES},
    }
    return anomaly_score, more


def pyod(name: str) -> Callable[..., tuple[np.ndarray, dict[str, Any]]]:
    made = getattr(import_module(f"pyod.models.{PEERS[name]}"), name)

    def score(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        scaler = StandardScaler().fit(train)
        np.random.seed(seed)
        torch.manual_seed(seed)
        options: dict[str, Any] = {"random_state": seed} if name in SEEDED else {}
        if name in {"AutoEncoder", "VAE", "DeepSVDD"}:
            options["verbose"] = 0
        if name == "DeepSVDD":
            options["n_features"] = train.shape[1]
        found = made(**options).fit(scaler.transform(train))
        same = train.shape == test.shape and np.array_equal(train, test)
        anomaly_score = found.decision_scores_ if same else found.decision_function(
            scaler.transform(test))  # fmt: skip
        return anomaly_score, {}

    return score


def cut(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 10,000 rows, with the same share of anomalies."""
    if len(x) <= MAX_ROWS:
        return x, y
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(y == level) for level in (0, 1)]
    kept = [rng.choice(r, max(1, round(MAX_ROWS * len(r) / len(y))), replace=False) for r in rows]
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows]


def split(y: np.ndarray, protocol: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fit on and the rows to score."""
    whole = np.arange(len(y))
    if protocol == "contaminated":
        return whole, whole
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    train = normal[: len(normal) // 2]
    return train, np.setdiff1d(whole, train)


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    held = np.load(path, allow_pickle=False)
    return cut(held["X"].astype(float), held["y"].astype(int).ravel())


def measure(path: Path, protocol: str, seed: int, method: str, pipe: Any) -> None:
    """Fit and score in this process, and send the figures."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    x, y = load(path)
    train, test = split(y, protocol, seed)
    score = keyhole if method == "keyhole" else pyod(method)
    began = time.process_time()
    anomaly_score, more = score(x[train], x[test], seed)
    seconds = time.process_time() - began
    anomaly_score, truth = np.nan_to_num(anomaly_score), y[test]
    if "alarms" in more:  # of rows known to be normal, those that alarm
        more["alarms"] = {r: int((a & (truth == 0)).sum()) for r, a in more["alarms"].items()}
        more["normal_rows"] = int((truth == 0).sum())
    pipe.send(
        {
            "auroc": roc_auc_score(truth, anomaly_score),
            "ap": average_precision_score(truth, anomaly_score),
            "cpu_seconds": seconds,
            **more,
        }
    )


def apart(path: Path, protocol: str, seed: int, method: str) -> dict[str, Any]:
    """The figures of one fit, or why there are none."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=measure, args=(path, protocol, seed, method, there)
    )
    child.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        found = {"failed": f"an error, or {MOST_SECONDS} CPU seconds"}
    child.join()
    return found


def collect(folder: Path, seeds: int, methods: list[str]) -> list[dict[str, Any]]:
    """Every figure asked for; a run that was killed goes on from the lines it wrote."""
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"anomaly-{folder.name}.part"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    found = {(e["set"], e["protocol"], e["seed"], e["method"]): e for e in lines}
    wanted = [
        (path, protocol, seed, method)
        for seed in range(seeds) for path in sorted(folder.glob("*.npz"))
        for protocol in PROTOCOLS for method in methods
    ]  # fmt: skip
    for path, protocol, seed, method in wanted:
        key = (path.stem, protocol, seed, method)
        if key in found:
            continue
        entry = dict(zip(("set", "protocol", "seed", "method"), key))
        found[key] = entry | apart(path, protocol, seed, method)
        with kept.open("a") as file:
            file.write(json.dumps(rounded(found[key])) + "\n")
    kept.unlink(missing_ok=True)
    return [found[path.stem, *rest] for path, *rest in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="of .npz files with X and y")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["keyhole", *PEERS])
    asked = parser.parse_args()
    folder = asked.folder or data("adbench")
    entries = collect(folder, asked.seeds, asked.methods)
    kept = RESULTS / f"anomaly-{folder.name}"
    kept.with_suffix(".json").write_text(json.dumps(rounded(entries), indent=1))
    kept.with_suffix(".md").write_text(table.markdown(entries))
    for protocol in PROTOCOLS:
        for line in table.summary(entries, protocol):
            emit("anomaly", protocol=protocol, seeds=asked.seeds, **line)
    if "keyhole" in asked.methods:
        emit("anomaly false alarms", **table.false_alarms(entries))
    if "keyhole" in asked.methods and len(asked.methods) > 1:
        for protocol in PROTOCOLS:
            emit("anomaly spread", protocol=protocol, **table.spread(entries, protocol))
        emit("anomaly not first", **table.not_first(entries))


if __name__ == "__main__":
    main()
