"""A million rows of 32 floats in memory: how many plain forward passes does a score cost?

The plain pass is the model's own network on encoded rows, under `torch.no_grad`, with the best of
three chunk sizes. The score includes encoding, the log-likelihood of every value, and gaps. Bar:
at most 2.5 plain passes.

The anomaly score of a detector needs more: 6 passes with masked columns, and the distances to
4,096 reference rows, whatever the number of training rows. It is compared with scikit-learn's
IsolationForest on as many threads.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import IsolationForest

from benchmarks.common import emit
from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.core.records import Batch

ROWS, COLUMNS = 1_000_000, 32
CHUNKS = (4_096, 16_384, 65_536)
ROUNDS = 5
TURNS = 3  # of a detector and a forest


def table(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows of a few hidden causes and some noise; with any seed, of one distribution."""
    rng, effects = np.random.default_rng([seed, 1]), np.random.default_rng(0)
    causes = rng.normal(size=(rows, 8))
    noise = 0.3 * rng.normal(size=(rows, columns))
    return (causes @ effects.normal(size=(8, columns)) + noise).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    """The least of several timings."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def peak_mb() -> float:
    """The most memory that this process has held, its parent's not counted."""
    held = Path("/proc/self/status").read_text()
    return int(held.split("VmHWM:")[1].split()[0]) / 1024


def anomaly_score(trained_on: int, bare_seconds: float) -> None:
    """The detector's time over the bare pass's, and its memory; fitted on few rows or on many."""
    x = np.empty((ROWS, COLUMNS), np.float32)
    for start in range(0, ROWS, 50_000):  # so that making them is not what takes the memory
        x[start : start + 50_000] = table(50_000, COLUMNS, seed=start)
    before = peak_mb()
    autoencoder = Autoencoder(training=TrainingConfig(200))
    detector = AnomalyDetector(autoencoder, random_state=0).fit(x[:trained_on])
    fitted = peak_mb()
    detector.score_samples(x)
    score_mb = peak_mb() - fitted
    forest = IsolationForest(n_jobs=torch.get_num_threads(), random_state=0).fit(x[:20_000])
    timings = []
    for _ in range(TURNS):  # in turns, so that both meet the same machine
        for model in (detector, forest):
            began = time.perf_counter()
            model.score_samples(x)
            timings.append(time.perf_counter() - began)
    seconds, forest_seconds = min(timings[::2]), min(timings[1::2])
    emit(
        "anomaly_score",
        rows=ROWS,
        columns=COLUMNS,
        trained_on=trained_on,
        reference_rows=len(detector.autoencoder_.model_.reference.reference_rows),
        seconds=seconds,
        bare_passes=seconds / bare_seconds,
        isolation_forest_seconds=forest_seconds,
        ratio=seconds / forest_seconds,
        bar="at most 2 times scikit-learn's IsolationForest",
        fit_mb=fitted - before,
        score_mb=score_mb,
        threads=torch.get_num_threads(),
    )


def main() -> float:
    """The seconds of the fastest bare pass."""
    x = table(ROWS, COLUMNS)
    model = Autoencoder(training=TrainingConfig(200), random_state=0).fit(x[:20_000])
    network, none = model.model_.network, torch.empty((ROWS, 0), dtype=torch.int64)
    whole = Batch(torch.from_numpy(x), none, torch.ones((ROWS, COLUMNS), dtype=torch.bool))
    stem, layers = network.stem, [network.encoder, network.bottleneck.to_code, network.decoder]
    locate = network.head.features["student_t"].to_location
    vectors = torch.cat(
        [stem(whole.take(slice(i, i + 65_536)))[0] for i in range(0, ROWS, 65_536)]
    )

    def bare(chunk: int) -> None:
        with torch.no_grad():
            for start in range(0, ROWS, chunk):
                state = vectors[start : start + chunk]
                for layer in layers:
                    state = layer(state)
                locate(state)

    passes = {chunk: seconds(lambda c=chunk: bare(c)) for chunk in CHUNKS}
    score = seconds(lambda: model.score_samples(x))
    emit(
        "scoring",
        rows=ROWS,
        columns=COLUMNS,
        bare_seconds=passes,
        score_seconds=score,
        ratio=score / min(passes.values()),
        bar="at most 2.5",
        threads=torch.get_num_threads(),
    )
    return min(passes.values())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        anomaly_score(int(sys.argv[1]), float(sys.argv[2]))
    else:
        least = main()
        for trained_on in (20_000, ROWS):  # each with a peak memory of its own
            command = [sys.executable, "-m", "benchmarks.scoring", str(trained_on), str(least)]
            subprocess.run(command, check=True)
