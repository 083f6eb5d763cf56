"""CTGAN's TVAE (Xu et al. 2019), in an environment of its own, because its licence differs.

    .venv-peers/ctgan/bin/python benchmarks/peer_ctgan.py ARGUMENTS.json

The JSON names `rows` and `made` (CSV files), the columns that hold `levels`, `n`, `seed` and
`epochs`. Nothing of keyhole is imported here. One line of JSON gives the seconds of fit and draw.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from ctgan import TVAE


def main(path: str) -> None:
    asked = json.loads(Path(path).read_text())
    torch.set_num_threads(asked["threads"])
    rows = pd.read_csv(asked["rows"])
    model = TVAE(epochs=asked["epochs"], enable_gpu=False)
    model.set_random_state(asked["seed"])
    began = time.perf_counter()
    model.fit(rows, asked["levels"])
    fitted = time.perf_counter()
    model.sample(asked["n"]).to_csv(asked["made"], index=False)
    print(
        json.dumps({"fit_seconds": fitted - began, "draw_seconds": time.perf_counter() - fitted})
    )


if __name__ == "__main__":
    main(sys.argv[1])
