"""Anomalies in ADBench's tables without labels: one default against PyOD's detectors.

    python -m benchmarks.anomaly [--folder FOLDER_OF_NPZ] [--seeds 3] [--methods keyhole KNN ...]
    python -m benchmarks.anomaly --entries results/A.part results/B.json   only summarise these

There are two protocols. *Contaminated*: fit on all rows without labels, and score the same rows.
*Clean*: fit on a random half of the normal rows, and score the other half and all anomalies.

Sets of more than 10,000 rows are reduced to 10,000 by a seeded stratified sample. The peers use
their own defaults, on columns standardised by the training rows.

Each fit runs in a process of its own, with one thread and 300 seconds of CPU time. The CPU time
includes imports (about 2 s for each fit of a deep method) and the compilation of HBOS. A mean is
over the sets that a method finished. Ranks count an unfinished set as last.

*Halves*: the sets are split 200 times into random halves, and keyhole's mean lead over the best
peer is measured on one of them; `ahead` is the share of splits with a lead above 0. The best peer
is chosen on the measured half (`lead`, which favours the peers), on all sets (`lead_all`), or on
the other half (`lead_other`). The last one favours keyhole, because the halves make up the whole:
a peer that is above its mean on one half is below it on the other.

*Difference*: keyhole's mean minus that of a peer, with a paired 95 % bootstrap interval (2,000
draws of sets with replacement). A set that a peer did not finish is left out for this peer. On a
set that keyhole did not finish, the lowest figure of the peers counts for it.

Bars: in each protocol, a lead on halves of .005 AUROC and .01 AP, ahead in 80 % of the splits, and
the best mean rank; CPU time at most that of AutoEncoder; false alarms inside their interval in
97 %.
"""

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from benchmarks import leads, table
from benchmarks.common import RESULTS, data, emit, rounded
from benchmarks.table import PROTOCOLS, Entry

MAX_ROWS = 10_000
MOST_SECONDS = 300
RATES = (0.01, 0.05, 0.10)
PEERS = {
    "AutoEncoder": "auto_encoder", "VAE": "vae", "DeepSVDD": "deep_svdd", "PCA": "pca",
    "ECOD": "ecod", "COPOD": "copod", "HBOS": "hbos", "LOF": "lof", "KNN": "knn",
    "IForest": "iforest", "MCD": "mcd",
}  # fmt: skip
SEEDED = {"AutoEncoder", "VAE", "DeepSVDD", "PCA", "IForest", "MCD"}
DTE_NEIGHBOURS = 5


@dataclass(frozen=True)
class LabelledTable:
    """A table by name; `load` returns its rows and their labels (1: anomaly) for a seed."""

    name: str
    load: Callable[[int], tuple[np.ndarray, np.ndarray]]


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
    detector_class = getattr(import_module(f"pyod.models.{PEERS[name]}"), name)

    def score(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        scaler = StandardScaler().fit(train)
        np.random.seed(seed)
        torch.manual_seed(seed)
        options: dict[str, Any] = {"random_state": seed} if name in SEEDED else {}
        if name in {"AutoEncoder", "VAE", "DeepSVDD"}:
            options["verbose"] = 0
        if name == "DeepSVDD":
            options["n_features"] = train.shape[1]
        detector = detector_class(**options).fit(scaler.transform(train))
        same = train.shape == test.shape and np.array_equal(train, test)
        anomaly_score = detector.decision_scores_ if same else detector.decision_function(
            scaler.transform(test))  # fmt: skip
        return anomaly_score, {}

    return score


def dte_np(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Non-parametric diffusion time estimation: Livernoche et al. 2024, section 4.1.

    The most probable time of an inverse gamma posterior grows with the mean squared distance to
    the 5 nearest training rows, so the ranks are those of this mean. A training row is not its
    own neighbour. No setting depends on `seed`.
    """
    scaler = StandardScaler().fit(train)
    nearest = NearestNeighbors(n_neighbors=DTE_NEIGHBOURS).fit(scaler.transform(train))
    same = train.shape == test.shape and np.array_equal(train, test)
    distances, _ = nearest.kneighbors(None if same else scaler.transform(test))
    return np.square(distances).mean(1), {}


def scorer_of(method: str) -> Callable[..., tuple[np.ndarray, dict[str, Any]]]:
    own = {"keyhole": keyhole, "DTE-NP": dte_np}
    return own[method] if method in own else pyod(method)


def cut(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 10,000 rows, with the same share of anomalies."""
    if len(x) <= MAX_ROWS:
        return x, y
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(y == level) for level in (0, 1)]
    sample = [
        rng.choice(r, max(1, round(MAX_ROWS * len(r) / len(y))), replace=False) for r in rows
    ]
    rows = np.sort(np.concatenate(sample))
    return x[rows], y[rows]


def split(y: np.ndarray, protocol: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fit on and the rows to score."""
    whole = np.arange(len(y))
    if protocol == "contaminated":
        return whole, whole
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    train = normal[: len(normal) // 2]
    return train, np.setdiff1d(whole, train)


def load(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows and labels of a file, the same for each seed."""
    arrays = np.load(path, allow_pickle=False)
    return cut(arrays["X"].astype(float), arrays["y"].astype(int).ravel())


def measure(labelled: LabelledTable, protocol: str, seed: int, method: str, pipe: Any) -> None:
    """Fit and score in this process, and send the figures."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    x, y = labelled.load(seed)
    train, test = split(y, protocol, seed)
    score = scorer_of(method)
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


def figures_of(labelled: LabelledTable, protocol: str, seed: int, method: str) -> Entry:
    """The figures of one fit in a process of its own, or why there are none."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=measure, args=(labelled, protocol, seed, method, there)
    )
    child.start()
    there.close()
    try:
        figures = here.recv()
    except EOFError:
        figures = {"failed": f"an error, or {MOST_SECONDS} CPU seconds"}
    child.join()
    return figures


def collect(name: str, tables: list[LabelledTable], seeds: int, methods: list[str]) -> list[Entry]:
    """The figures of all fits; a run that was killed continues from results/NAME.part."""
    RESULTS.mkdir(exist_ok=True)
    part = RESULTS / f"{name}.part"
    done = {table.key(entry): entry for entry in (table.read(part) if part.exists() else [])}
    fits = [
        (labelled, protocol, seed, method)
        for seed in range(seeds) for labelled in tables
        for protocol in PROTOCOLS for method in methods
    ]  # fmt: skip
    entries = []
    for labelled, protocol, seed, method in fits:
        names = {"set": labelled.name, "protocol": protocol, "seed": seed, "method": method}
        if table.key(names) not in done:
            entry = rounded(names | figures_of(labelled, protocol, seed, method))
            done[table.key(names)] = entry
            with part.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        entries.append(done[table.key(names)])
    part.with_suffix(".json").write_text(json.dumps(entries, indent=1))
    part.unlink(missing_ok=True)
    return entries


def report(entries: list[Entry]) -> None:
    """Print what the entries say, as lines of JSON."""
    seeds = len({entry["seed"] for entry in entries})
    for protocol in PROTOCOLS:
        for line in table.summary(entries, protocol):
            emit("anomaly", protocol=protocol, seeds=seeds, **line)
    methods = {entry["method"] for entry in entries}
    if "keyhole" in methods:
        emit("anomaly false alarms", **table.false_alarms(entries))
    if "keyhole" in methods and len(methods) > 1:
        for name, lines_of in (("halves", leads.halves), ("difference", leads.differences)):
            for protocol in PROTOCOLS:
                for line in lines_of(entries, protocol):
                    emit(f"anomaly {name}", protocol=protocol, **line)
        emit("anomaly not first", **table.not_first(entries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="of .npz files with X and y")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["keyhole", "DTE-NP", *PEERS])
    parser.add_argument("--entries", type=Path, nargs="+", help="files of earlier runs; no fits")
    options = parser.parse_args()
    if options.entries:
        return report(table.merged(options.entries))
    folder = options.folder or data("adbench")
    tables = [
        LabelledTable(path.stem, partial(load, path)) for path in sorted(folder.glob("*.npz"))
    ]
    name = f"anomaly-{folder.name}"
    entries = collect(name, tables, options.seeds, options.methods)
    (RESULTS / f"{name}.md").write_text(table.markdown(entries))
    report(entries)
    return None


if __name__ == "__main__":
    main()
