"""Anomalies of known kinds in generated tables, on which nothing is tuned.

    python -m benchmarks.anomaly_made [--seeds 1] [--methods keyhole KNN ...]

A table has 12 columns, 1,900 normal rows and 100 anomalies of one kind. There are four generators
of normal rows. *Mixture*: four Gaussian clusters, each with its own covariance. *Copula*: three
factors with noise, and two columns that depend on others by a square and a sine; the columns have
different marginals. *Manifold*: sines of random directions in two dimensions, with noise. *Heavy
tails*: independent columns, Student's t with 3 degrees of freedom or log-normal.

The kinds are those of ADBench (Han et al. 2022, section 3.3). *Local*: the deviations from the
cluster (or from the factors, the manifold, the median) have 5 times the variance. *Global*:
uniform over a box that is a tenth larger than that of the normal rows. *Cluster*: a tight cluster,
1.5 times as far from the mean as 99 % of the normal rows. *Dependency*: each column is drawn
independently from its marginal. Independent columns have no such anomalies, so there are 15 tables
a seed, each seed with its own tables.

Protocols, limits and figures are those of `anomaly`. Peers are those that need little time.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

from benchmarks import table
from benchmarks.anomaly import LabelledTable, collect
from benchmarks.common import emit
from benchmarks.table import PROTOCOLS, Entry

COLUMNS, NORMAL, ANOMALIES = 12, 1_900, 100
CLUSTERS, FACTORS, DIMENSIONS = 4, 3, 2
INFLATION = 5.0  # of the variance, for local anomalies
LARGER = 0.1  # by which a box exceeds that of the normal rows, as a share of its sides
FARTHER, TIGHTNESS = 1.5, 0.1  # of a cluster: distance, and standard deviation beside a column's
KINDS = ("local", "global", "cluster", "dependency")
LIGHT = ["keyhole", "DTE-NP", "KNN", "LOF", "IForest", "MCD", "PCA", "ECOD"]
Sampler = Callable[[int, float], np.ndarray]  # this many rows, with inflated deviations


def mixture(rng: np.random.Generator) -> Sampler:
    """Gaussian clusters of different sizes and covariances."""
    centres = rng.normal(scale=2, size=(CLUSTERS, COLUMNS))
    mixing = rng.normal(size=(CLUSTERS, COLUMNS, COLUMNS)) / np.sqrt(COLUMNS)
    shares = rng.dirichlet(np.full(CLUSTERS, 5.0))

    def rows(count: int, inflation: float) -> np.ndarray:
        cluster = rng.choice(CLUSTERS, count, p=shares)
        noise = rng.normal(size=(count, COLUMNS))
        deviations = np.einsum("nij,nj->ni", mixing[cluster], noise)
        return centres[cluster] + np.sqrt(inflation) * deviations

    return rows


def copula(rng: np.random.Generator) -> Sampler:
    """Normal scores that share factors, two of them by a curve, under different marginals."""
    loadings = rng.normal(size=(FACTORS, COLUMNS)) / np.sqrt(FACTORS)
    marginals = [stats.norm(), stats.gamma(2), stats.uniform(), stats.lognorm(0.7), stats.t(4)]
    order = rng.integers(len(marginals), size=COLUMNS)

    def rows(count: int, inflation: float) -> np.ndarray:
        common = rng.normal(size=(count, FACTORS)) @ loadings
        common[:, -2] = common[:, 0] ** 2 - 1
        common[:, -1] = np.sin(3 * common[:, 1])
        noise = rng.normal(scale=0.4, size=(count, COLUMNS))
        rank = stats.norm.cdf((common + np.sqrt(inflation) * noise) / 1.2)
        rank = rank.clip(1e-6, 1 - 1e-6)
        return np.stack([marginals[m].ppf(rank[:, c]) for c, m in enumerate(order)], 1)

    return rows


def manifold(rng: np.random.Generator) -> Sampler:
    """A curved surface with noise around it."""
    directions = rng.normal(scale=1.5, size=(DIMENSIONS, COLUMNS))
    phases = rng.uniform(0, 2 * np.pi, COLUMNS)

    def rows(count: int, inflation: float) -> np.ndarray:
        surface = np.sin(rng.uniform(-1, 1, (count, DIMENSIONS)) @ directions + phases)
        return surface + np.sqrt(inflation) * rng.normal(scale=0.1, size=surface.shape)

    return rows


def heavy_tails(rng: np.random.Generator) -> Sampler:
    """Independent columns: the first half Student's t, the second log-normal."""
    scales = rng.uniform(0.5, 2, COLUMNS)

    def rows(count: int, inflation: float) -> np.ndarray:
        half = (count, COLUMNS // 2)
        symmetric = np.sqrt(inflation) * rng.standard_t(3, half)
        skewed = np.exp(np.sqrt(inflation) * rng.normal(size=half))
        return scales * np.hstack([symmetric, skewed])

    return rows


GENERATORS = (mixture, copula, manifold, heavy_tails)


def anomalies(
    kind: str, normal: np.ndarray, rows: Sampler, rng: np.random.Generator
) -> np.ndarray:
    """Anomalies of one kind, for these normal rows and their sampler."""
    if kind == "local":
        return rows(ANOMALIES, INFLATION)
    if kind == "dependency":
        return rng.permuted(rows(ANOMALIES, 1.0), axis=0)
    if kind == "global":
        low, high = normal.min(0), normal.max(0)
        margin = LARGER / 2 * (high - low)
        return rng.uniform(low - margin, high + margin, (ANOMALIES, COLUMNS))
    mean, scale = normal.mean(0), normal.std(0)
    distance = np.quantile(np.linalg.norm((normal - mean) / scale, axis=1), 0.99)
    direction = rng.normal(size=COLUMNS)
    place = FARTHER * distance * direction / np.linalg.norm(direction)
    return mean + scale * (place + TIGHTNESS * rng.normal(size=(ANOMALIES, COLUMNS)))


def generated(generator: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table with anomalies of this kind, and its labels; the kinds share their normal rows."""
    rng = np.random.default_rng([seed, generator])
    rows = GENERATORS[generator](rng)
    normal = rows(NORMAL, 1.0)
    values = np.concatenate([normal, anomalies(kind, normal, rows, rng)])
    labels = np.repeat([0, 1], [NORMAL, ANOMALIES])
    order = rng.permutation(len(values))
    return values[order], labels[order]


def tables() -> list[LabelledTable]:
    """All tables; their names are KIND/GENERATOR."""
    return [
        LabelledTable(f"{kind}/{generator.__name__}", partial(generated, place, kind))
        for kind in KINDS
        for place, generator in enumerate(GENERATORS)
        if (kind, generator) != ("dependency", heavy_tails)
    ]


def by_kind(entries: list[Entry], protocol: str, kind: str, measure: str) -> dict[str, float]:
    """The mean of each method over the tables with anomalies of this kind."""
    figures = table.figures(entries, protocol)
    of_kind = {
        method: [sets[name][measure] for name in sets if name.startswith(f"{kind}/")]
        for method, sets in figures.items()
    }
    return {method: float(np.mean(values)) for method, values in of_kind.items() if values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=LIGHT)
    options = parser.parse_args()
    entries = collect("anomaly_made", tables(), options.seeds, options.methods)
    for protocol in PROTOCOLS:
        for line in table.summary(entries, protocol):
            emit("anomaly_made", protocol=protocol, seeds=options.seeds, **line)
    for protocol in PROTOCOLS:
        for kind in KINDS:
            for measure in ("auroc", "ap"):
                figures = by_kind(entries, protocol, kind, measure)
                emit("anomaly_made kinds", protocol=protocol, kind=kind, what=measure, **figures)


if __name__ == "__main__":
    main()
