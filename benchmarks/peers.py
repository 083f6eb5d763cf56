"""Three peers that generate rows of a table: blended neighbours, a Gaussian copula, CTGAN's TVAE.

Each takes a frame and returns `n` rows with the same columns and kinds. Inside, a gap in a column
of numbers is a level of its own ("is this a gap?"), and the number there is the column's median.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.neighbors import NearestNeighbors

ROOT = Path(__file__).parents[1]
NEEDS = {  # ctgan is under the BUSL: never in our extras
    "ctgan": ["torch==2.13.0", "ctgan"],
    "pythae": ["torch==2.13.0", "pythae==0.1.2"],
}


@dataclass(frozen=True)
class Coded:
    """A frame as a matrix of numbers without gaps and a matrix of level codes, and the way back.

    The codes are first those of the columns of levels, then one flag for each gappy number.
    """

    frame: pd.DataFrame
    numbers: list[str]
    levels: list[str]
    gappy: list[str]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Coded":
        """The frame, its columns sorted into numbers and levels."""
        numbers = frame.select_dtypes("number").columns.tolist()
        levels = [name for name in frame if name not in numbers]
        gappy = [name for name in numbers if frame[name].isna().any()]
        return cls(frame, numbers, levels, gappy)

    def values(self) -> np.ndarray:
        """The numbers, a column's median in its gaps."""
        held = self.frame[self.numbers].astype(float)
        return held.fillna(held.median()).to_numpy()

    def codes(self) -> np.ndarray:
        """Level codes from 0; a gap in a column of levels has the last code."""
        held = [pd.factorize(self.frame[name], use_na_sentinel=False)[0] for name in self.levels]
        held += [self.frame[name].isna().to_numpy().astype(int) for name in self.gappy]
        return np.stack(held, 1) if held else np.empty((len(self.frame), 0), int)

    def back(self, values: np.ndarray, codes: np.ndarray) -> pd.DataFrame:
        """Rows of the first frame's kinds; whole numbers are rounded, gaps put back."""
        made: dict[str, Any] = {}
        for i, name in enumerate(self.numbers):
            held = self.frame[name].dropna()
            whole = bool((held == held.round()).all())
            made[name] = np.round(values[:, i]) if whole else values[:, i].copy()
        for i, name in enumerate(self.gappy, len(self.levels)):
            made[name][codes[:, i] == 1] = np.nan
        for i, name in enumerate(self.levels):
            levels = pd.factorize(self.frame[name], use_na_sentinel=False)[1]
            made[name] = levels.take(codes[:, i])
        whole = pd.DataFrame({name: made[name] for name in self.frame})
        return whole.astype({name: self.frame[name].dtype for name in self.numbers})


def one_hot(codes: np.ndarray) -> np.ndarray:
    """The levels as columns; two rows that differ in a level are at distance one in it."""
    held = [column[:, None] == np.unique(column) for column in codes.T]
    return np.hstack(held) / np.sqrt(2) if held else np.empty((len(codes), 0))


def smote_like(frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Rows between a training row and one of its five nearest neighbours (Chawla et al. 2002).

    Numbers lie a share `u` of the way to the neighbour; each level is the neighbour's with
    probability `u`.
    """
    rng = np.random.default_rng(seed)
    coded = Coded.of(frame)
    values, codes = coded.values(), coded.codes()
    spread = values.std(0)
    near = np.hstack([(values - values.mean(0)) / np.where(spread > 0, spread, 1), one_hot(codes)])
    row = rng.integers(0, len(frame), n)
    few = min(6, len(frame))
    five = NearestNeighbors(n_neighbors=few).fit(near).kneighbors(near[row], return_distance=False)
    other = five[np.arange(n), rng.integers(min(1, few - 1), few, n)]  # 0 is itself
    u = rng.random((n, 1))
    blended = values[row] + u * (values[other] - values[row])
    picked = np.where(rng.random((n, codes.shape[1])) < u, codes[other], codes[row])
    return coded.back(blended, picked)


def gaussian_copula(frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Rows with each column's own distribution and the correlation of the normal scores.

    A level takes the interval of its cumulated share, most frequent first, and a row a uniform
    place in it (Patki, Wedge and Veeramachaneni 2016).
    """
    rng = np.random.default_rng(seed)
    coded = Coded.of(frame)
    values, codes = coded.values(), coded.codes()
    numbers, ends = values.shape[1], []
    place = [(rankdata(column) - 0.5) / len(frame) for column in values.T]
    for column in codes.T:
        share = np.bincount(column) / len(frame)
        order = np.argsort(-share, kind="stable")
        high = np.cumsum(share[order])
        ends.append((order, high))
        rank = np.argsort(order)[column]
        place.append(high[rank] - rng.random(len(frame)) * share[column])
    scores = norm.ppf(np.clip(np.stack(place, 1), 1e-6, 1 - 1e-6))
    constant = scores.std(0) == 0
    scores[:, constant] = rng.standard_normal((len(frame), int(constant.sum())))
    correlation = np.atleast_2d(np.corrcoef(scores, rowvar=False))
    drawn = rng.multivariate_normal(np.zeros(len(correlation)), correlation, n, method="eigh")
    u = norm.cdf(drawn)
    kinds = [frame[name].dtype.kind for name in coded.numbers]
    made = [np.quantile(values[:, i], u[:, i], method="closest_observation" if kind in "iu"
            else "linear") for i, kind in enumerate(kinds)]  # fmt: skip
    levels = [order[np.searchsorted(high[:-1], u[:, numbers + i])]
              for i, (order, high) in enumerate(ends)]  # fmt: skip
    return coded.back(
        np.stack(made, 1) if made else np.empty((n, 0)),
        np.stack(levels, 1) if levels else np.empty((n, 0), int),
    )


def environment(name: str) -> Path:
    """The Python of a peer's own environment, made on first use."""
    folder = ROOT / ".venv-peers" / name
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
        subprocess.run([*command, *NEEDS[name]], check=True)
        done.touch()
    return python


def ctgan_tvae(
    frame: pd.DataFrame, n: int, seed: int, seconds: float, *, epochs: int = 300, threads: int = 1
) -> pd.DataFrame:
    """Rows from CTGAN's TVAE at its defaults; the frame's `attrs` hold its own two times.

    Raises: subprocess.TimeoutExpired after this many seconds.
    """
    coded = Coded.of(frame)
    codes = coded.codes()
    numbers = [f"number {i}" for i in range(len(coded.numbers))]
    levels = [f"level {i}" for i in range(codes.shape[1])]
    with tempfile.TemporaryDirectory() as folder:
        rows, made, asked = (Path(folder) / name for name in ("rows", "made", "asked"))
        # Kinds as they are: TVAE rounds whole columns itself.
        held = frame[coded.numbers].fillna(frame[coded.numbers].median()).set_axis(numbers, axis=1)
        whole = pd.DataFrame(codes, columns=levels, index=frame.index)
        pd.concat([held, whole], axis=1).to_csv(rows, index=False)
        asked.write_text(json.dumps({
            "rows": str(rows), "made": str(made), "levels": levels, "n": n, "seed": seed,
            "epochs": epochs, "threads": threads,
        }))  # fmt: skip
        command = [environment("ctgan"), ROOT / "benchmarks" / "peer_ctgan.py", asked]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=seconds)
        drawn = pd.read_csv(made)
    result = coded.back(drawn[numbers].to_numpy(float), drawn[levels].to_numpy(int))
    result.attrs |= json.loads(done.stdout.splitlines()[-1])
    return result
