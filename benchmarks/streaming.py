"""Parquet to scored Parquet in one process, against a plain loop of reading and forward passes.

Bars: at least 0.7 of the speed of the plain loop; at most 200 MB above the loaded library at 2 and
at 8 million rows; fitting on the same files with less than 1 GB above the import. Each run is a
process of its own, so that its peak memory can be measured.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import emit

COLUMNS, GROUP_ROWS = 32, 131_072
CHUNK = 16_384


def write(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.scoring import table

    names = [f"c{i}" for i in range(COLUMNS)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, GROUP_ROWS):
            block = table(min(GROUP_ROWS, rows - start), COLUMNS, seed=start)
            writer.write_table(pa.table(list(block.T), schema=schema), row_group_size=GROUP_ROWS)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def loaded() -> float:
    """Peak memory once everything that a run needs is imported."""
    import pyarrow.parquet  # noqa: F401
    import torch

    import keyhole.cli.tasks
    import keyhole.jobs
    import keyhole.tasks  # noqa: F401

    torch.nn.functional.linear(torch.ones(8, 8), torch.ones(8, 8))
    torch.empty(2, device="meta").uniform_()  # torch brings sympy with its first meta tensor
    return peak_mb()


def score(folder: Path, rows: int) -> dict[str, float]:
    from keyhole import AnomalyDetector
    from keyhole.cli import run

    AnomalyDetector.load(str(folder / "m.keyhole"))  # sympy and others come with the first load
    before = loaded()
    out = folder / f"scored{rows}.parquet"
    began = time.perf_counter()
    code = run(["score", str(folder / "m.keyhole"), str(folder / f"r{rows}.parquet"), "-o",
                str(out), "--force", "--quiet"])  # fmt: skip
    return {"seconds": time.perf_counter() - began, "mb": peak_mb() - before, "code": code}


def bare(folder: Path, rows: int) -> dict[str, float]:
    import pyarrow.parquet as pq
    import torch

    from keyhole import Autoencoder
    from keyhole.core.records import Batch

    before = loaded()
    network = Autoencoder.load(str(folder / "m.keyhole")).model_.network
    began = time.perf_counter()
    with torch.no_grad():
        for batch in pq.ParquetFile(folder / f"r{rows}.parquet", pre_buffer=False).iter_batches(
            CHUNK
        ):
            x = torch.from_numpy(batch.to_tensor(row_major=True).to_numpy().copy())
            none = torch.empty((len(x), 0), dtype=torch.int64)
            network(Batch(x, none, torch.ones(x.shape, dtype=torch.bool)))
    return {"seconds": time.perf_counter() - began, "mb": peak_mb() - before}


def fit(folder: Path, rows: int) -> dict[str, float]:
    from keyhole.cli import run

    before = loaded()
    began = time.perf_counter()
    code = run(["fit", str(folder / f"r{rows}.parquet"), "-o", str(folder / "m.keyhole"),
                "--no-report", "--force", "--quiet", "--steps", "600"])  # fmt: skip
    return {"seconds": time.perf_counter() - began, "mb": peak_mb() - before, "code": code}


def ordered(folder: Path, rows: int) -> bool:
    """The first and the last rows' scores are those that they have alone."""
    import pyarrow.parquet as pq

    from keyhole import Autoencoder

    found = pq.read_table(folder / f"scored{rows}.parquet")["log_likelihood"].to_numpy()
    given = pq.ParquetFile(folder / f"r{rows}.parquet")
    model = Autoencoder.load(str(folder / "m.keyhole"))
    first, last = given.read_row_group(0), given.read_row_group(given.num_row_groups - 1)
    alone = model.score_samples(first), model.score_samples(last)
    near = [np.allclose(a, b, rtol=1e-4, atol=1e-4)
            for a, b in zip(alone, (found[: len(alone[0])], found[-len(alone[1]):]))]  # fmt: skip
    return len(found) == rows and all(near)


def in_process(what: str, folder: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.streaming", what, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(sizes: tuple[int, ...] = (2_000_000, 8_000_000)) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in sizes:
            write(folder / f"r{rows}.parquet", rows)
        fits = {rows: in_process("fit", folder, rows) for rows in sizes}
        for rows in sizes:
            # Twice each, in turn: the better of two, so that a busy neighbour harms neither.
            runs = [(in_process("bare", folder, rows), in_process("score", folder, rows))
                    for _ in range(2)]  # fmt: skip
            bare_s, score_s = (min(run[i]["seconds"] for run in runs) for i in (0, 1))
            emit(
                "streaming",
                rows=rows,
                bare_rows_a_second=rows / bare_s,
                rows_a_second=rows / score_s,
                ratio=bare_s / score_s,
                mb_above_library=max(run[1]["mb"] for run in runs),
                in_order=ordered(folder, rows),
                fit_seconds=fits[rows]["seconds"],
                fit_mb_above_import=fits[rows]["mb"],
                bar="ratio at least 0.7, at most 200 MB, fit under 1,000 MB",
            )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        kind, where, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
        print(json.dumps({"bare": bare, "score": score, "fit": fit}[kind](where, count)))
    else:
        main(*[tuple(int(size) for size in sys.argv[1:])] if len(sys.argv) > 1 else [])
