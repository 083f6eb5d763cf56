"""What the benchmarks share: where the data is, and how a figure is printed."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(os.environ.get("KEYHOLE_DATA", Path(__file__).parents[2] / "shared" / "data"))
RESULTS = Path(__file__).parent / "results"
WHERE = {
    "adbench": "22 tables of github.com/Minqi824/ADBench (BSD-2-Clause): .npz files with X and y",
    "adult": "UCI Adult (CC BY 4.0) as adult.csv, the copy in github.com/AlliedToasters/dfencoder",
    "skab": "anomaly-free.csv and valve1/*.csv of github.com/waico/SKAB (GPL-3.0)",
    "citeulike": "train.txt, valid.txt and test.txt of github.com/geon0325/LightGCNpp (CiteULike)",
    "lastfm": "the same files of its LastFM (HetRec 2011; only for non-commercial research)",
    "images": "MNIST's test digits (CC BY-SA 3.0) as mnist-t10k-images-idx3-ubyte.gz",
}


def data(name: str) -> Path:
    """The folder of a data set; says where it comes from and stops where it is absent."""
    folder = DATA / name
    if not folder.exists():
        print(f"{folder} is absent. It holds {WHERE[name]}. Set KEYHOLE_DATA to its parent.",
              file=sys.stderr)  # fmt: skip
        sys.exit(0)
    return folder


def emit(benchmark: str, **figures: Any) -> None:
    """One line of JSON on standard output."""
    print(json.dumps({"benchmark": benchmark, **rounded(figures)}), flush=True)


def rounded(value: Any) -> Any:
    """Figures to four digits, and NumPy's as Python's."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}")
    return value.item() if isinstance(value, np.generic) else value
