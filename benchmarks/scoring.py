"""A million rows of 32 floats in memory: how many bare forward passes does a score cost?

The bare pass is the model's own network on encoded rows, under `torch.no_grad`, the best of three
chunk sizes; the score includes encoding, the log-likelihood of every cell, and gaps.
Bar: at most 2.5 bare passes.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.common import emit
from keyhole import Autoencoder, Plan
from keyhole.core.records import Batch

ROWS, COLUMNS = 1_000_000, 32
CHUNKS = (4_096, 16_384, 65_536)
ROUNDS = 5


def table(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows of a few hidden causes and some noise."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(rows, 8))
    noise = 0.3 * rng.normal(size=(rows, columns))
    return (causes @ rng.normal(size=(8, columns)) + noise).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    """The least of several timings."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    x = table(ROWS, COLUMNS)
    model = Autoencoder(plan=Plan(200), random_state=0).fit(x[:20_000])
    network, none = model.network_, torch.empty((ROWS, 0), dtype=torch.int64)
    whole = Batch(torch.from_numpy(x), none, torch.ones((ROWS, COLUMNS), dtype=torch.bool))
    stem, layers = network.stem, [network.encoder, network.bottleneck.to_code, network.decoder]
    locate = network.head.cells["student_t"].to_location
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


if __name__ == "__main__":
    main()
