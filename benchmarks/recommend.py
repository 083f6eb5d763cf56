"""Recommendations for users that no model has seen, against tuned peers; and their speed.

    python -m benchmarks.recommend [--only dense nets times speed ...] [--without iALS] [...]

With --peers FOLDER the peers, which take most of the time, run once and are read afterwards.

Strong generalisation, as in Liang et al. 2018. Users with fewer than five items are left out. The
others are split 80/10/10 into train, validation and test users. The catalogue is the items of
train users. For a validation or test user, 80 % of the items are given to the model (fold-in), and
the others must be found. Given items are not recommended.

There are three splits. Every peer is tuned on the validation NDCG@100 of the same split
(benchmarks/recommend_peers.py), and measured on test users. A search climbs through the grid, from
the best setting of the split before. `on_edge` names settings whose best value is the first or
last of its grid.

Figures are means over the test users of all splits, with 95 % bootstrap intervals over users (a
user may be a test user of more than one split). `behind_best` is the paired difference in NDCG@100
to the best method, and its standard error.

*citeulike*: articles in the libraries of 5,551 users. *lastfm*: artists of 1,885 listeners.
*dense*: generated users of low rank with popularity, as dense as movie ratings (a new data set for
each split, benchmarks/interactions_made.py).

*nets*: dense data with fewer users and items (1,200 and 400, 8 %). Only networks are compared,
with default settings and trained in turns: the composite prior of RecVAE, and Mult-VAE.

*times*: leave-last-out. The taste of generated users moves over time. The last item of every
user must be found from all items before it. Models are fitted to all items but the last two, and
tuned to find the item before the last. So NDCG@100 is of one item: 1 / log2(1 + its rank).

*speed*: EASE for a catalogue of 5,000 items, compared with NumPy's Cholesky factor and solve of
the same size; the top 10 of 10,000 items for 100,000 users with about 30 items each, in seconds
and peak memory. One thread.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks.common import data, emit
from benchmarks.interactions_made import dense_history, sparse_history, timed_history
from benchmarks.recommend_peers import PEERS, Method, Scorer, tuned
from benchmarks.scoring import peak_mb
from keyhole.tasks.recommend import choose
from keyhole.tasks.recommend.base import best_items
from keyhole.tasks.recommend.deep import DeepLists
from keyhole.tasks.recommend.linear import SolvedLinear
from keyhole.tasks.recommend.metrics import (
    RankingMetrics,
    intervals,
    paired_difference,
    ranking_metrics,
)
from keyhole.tasks.recommend.splits import fold_in, held_out_users, item_counts, last_out

LIKE_PEERS = ("popularity", "item_knn")  # of our own models
SECTIONS = ("dense", "nets", "times", "speed", "citeulike", "lastfm")
NETS = ("composite", "variational")  # codes of a net that are compared
FEWEST_ITEMS = 5  # of a user
FEWER = (1_200, 400, 0.08)  # users, items and density, for nets beside each other
FILES = ("train.txt", "valid.txt", "test.txt")
LONGEST, BLOCK_USERS = 100, 1_000
WITH_INTERVAL = ("ndcg@100", "recall@20", "recall@50")
MEANS = ("map@100", "mrr@100", "tail_recall@50", "novelty@50")


@dataclass(frozen=True)
class Judged:
    """Users to judge on: the items that a model is given, and those to find."""

    given: csr_array
    held_out: csr_array

    @classmethod
    def of(cls, history: csr_array, seed: int) -> "Judged":
        """A random cut of these users' items."""
        return cls(*fold_in(history, seed))


@dataclass(frozen=True)
class Split:
    """Train, validation and test users; the catalogue is the items of train users."""

    train: csr_array
    validation: Judged
    test: Judged

    @classmethod
    def of(cls, history: csr_array, seed: int) -> "Split":
        """80/10/10 of the users with at least five items."""
        history = history[item_counts(history) >= FEWEST_ITEMS]
        later = held_out_users(history, 2 * seed, 0.2)
        catalogue = np.flatnonzero(history[~later].sum(0) > 0)
        train, rest = history[~later][:, catalogue], history[later][:, catalogue]
        test = held_out_users(rest, 2 * seed + 1, 0.5)
        return cls(train, Judged.of(rest[~test], seed), Judged.of(rest[test], seed))

    @classmethod
    def by_time(cls, times: csr_array) -> "Split":
        """The last item of each user to test, the one before to validate, the others to train.

        A stored value of `times` is when a user took an item, above zero.
        """
        times = times[item_counts(times) >= FEWEST_ITEMS]
        before, last = last_out(times, times.data)
        train, second = last_out(before, before.data)
        catalogue = np.flatnonzero(train.sum(0) > 0)
        train, second, before, last = (
            csr_array(part != 0, dtype=float)[:, catalogue]
            for part in (train, second, before, last)
        )
        return cls(train, Judged(train, second), Judged(before, last))


def own_models(
    train: csr_array, validation: Judged, seed: int, only: Iterable[str] | None = None
) -> dict[str, Scorer]:
    """Our own models by name, fitted; with `only`, those of these names.

    A model may choose its settings by the validation users.
    """
    if only is not None:
        return {"linear": SolvedLinear(100.0).fit(train).scores} if "EASE" in only else {}
    fold = choose.Fold(train, validation.given, validation.held_out)
    choice = choose.choose("auto", [fold], seed)
    for sentence in choice.why:
        print(f"auto: {sentence}", file=sys.stderr, flush=True)
    own = {name: m for name, m in choice.families.items() if name not in LIKE_PEERS}
    return {f"keyhole {name}": m.scores for name, m in {"auto": choice.model, **own}.items()}


def top_items(scores: Scorer, given: csr_array, count: int) -> np.ndarray:
    """The best items of each user that are not given, best first; -1 where there is none."""
    count = min(count, given.shape[1])
    blocks = [np.empty((0, count), np.int64)]
    for start in range(0, given.shape[0], BLOCK_USERS):
        items = csr_array(given[start : start + BLOCK_USERS])
        values = np.asarray(scores(items)).copy()
        values[items.nonzero()] = -np.inf
        best = np.argpartition(-values, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(values, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        blocks.append(np.where(np.take_along_axis(values, best, 1) > -np.inf, best, -1))
    return np.concatenate(blocks)


def judge(scores: Scorer, users: Judged, train: csr_array, ks=(20, 50, 100)) -> RankingMetrics:
    """How well a model finds these users' held-out items."""
    top = top_items(scores, users.given, LONGEST)
    return ranking_metrics(top, users.held_out, np.asarray(train.sum(0)), ks)


@dataclass(frozen=True)
class Run:
    """A method on one split."""

    metrics: RankingMetrics
    seconds: float
    details: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Run":
        """A run that `write` wrote."""
        with np.load(path) as arrays:
            per_user = {name: arrays[name] for name in arrays.files if name != "record"}
            record = json.loads(str(arrays["record"]))
        return cls(RankingMetrics(per_user, record["coverage"]), *record["rest"])

    def write(self, path: Path) -> None:
        """The run as one .npz file."""
        record = {"coverage": self.metrics.coverage, "rest": [self.seconds, self.details]}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, record=json.dumps(record), **self.metrics.per_user)

    def __str__(self) -> str:
        ndcg = self.metrics.means()["ndcg@100"]
        return f"NDCG@100 {ndcg:.4f} after {self.seconds:.1f} s; {self.details}"


def run_peer(method: Method, split: Split, seed: int) -> Run:
    """A peer, tuned on validation users; seconds are those of its last fit."""

    def validation_ndcg(scores: Scorer) -> float:
        return judge(scores, split.validation, split.train, (100,)).means()["ndcg@100"]

    began = time.perf_counter()
    fit = method.prepare(split.train, seed)
    prepared = time.perf_counter() - began
    best = tuned(fit, method.grid, method.start, validation_ndcg)
    began = time.perf_counter()
    scores = fit(**best.setting)
    seconds = prepared + time.perf_counter() - began
    return Run(judge(scores, split.test, split.train), seconds, asdict(best))


def run_own(split: Split, seed: int) -> dict[str, Run]:
    """Our own models; seconds are those of all together."""
    began = time.perf_counter()
    own = own_models(split.train, split.validation, seed)
    seconds = time.perf_counter() - began
    return {
        name: Run(judge(scores, split.test, split.train), seconds, {})
        for name, scores in own.items()
    }


def pooled(runs: list[Run]) -> RankingMetrics:
    """Users of all splits together, and the mean coverage."""
    parts = [run.metrics for run in runs]
    return RankingMetrics(
        {name: np.concatenate([p.per_user[name] for p in parts]) for name in parts[0].per_user},
        {name: float(np.mean([p.coverage[name] for p in parts])) for name in parts[0].coverage},
    )


def runs_of_peer(name: str, section: str, splits: list[Split], folder: Path | None) -> list[Run]:
    """A run a split; those in the folder are read, others written; a search starts at the last."""
    method, runs = PEERS[name], []
    for seed, split in enumerate(splits):
        path = folder and folder / f"{section}-{seed}-{name}.npz"
        if path and path.exists():
            run = Run.read(path)
        else:
            run = run_peer(method, split, seed)
            print(f"{section}, split {seed}, {name}: {run}", file=sys.stderr, flush=True)
        if path and not path.exists():
            run.write(path)
        method = replace(method, start=tuple(run.details["place"]))
        runs.append(run)
    return runs


def run_net(split: Split, seed: int, code: str) -> Run:
    """A net with this kind of code, with its default settings."""
    began = time.perf_counter()
    model = DeepLists(code).fit(split.train, seed)  # pyright: ignore
    seconds = time.perf_counter() - began
    return Run(judge(model.scores, split.test, split.train), seconds, {})


def compare_nets(splits: list[Split]) -> None:
    """A line for each kind of code; nets are trained in turns."""
    runs: dict[str, list[Run]] = {code: [] for code in NETS}
    for seed, split in enumerate(splits):
        for code in NETS:
            runs[code].append(run_net(split, seed, code))
            print(f"nets, split {seed}, {code}: {runs[code][-1]}", file=sys.stderr, flush=True)
    report("nets", {f"keyhole {code}": own for code, own in runs.items()})


def compare(section: str, splits: list[Split], methods: list[str], folder: Path | None) -> None:
    """A line for each method, over all splits."""
    runs: dict[str, list[Run]] = {}
    for seed, split in enumerate(splits if "keyhole" in methods else []):
        for name, run in run_own(split, seed).items():
            runs.setdefault(name, []).append(run)
    for name in [name for name in methods if name in PEERS]:
        runs[name] = runs_of_peer(name, section, splits, folder)
    report(section, runs)


def report(section: str, runs: dict[str, list[Run]]) -> None:
    """A line for each method, over its runs: one a split."""
    metrics = {name: pooled(own) for name, own in runs.items()}
    best = max(metrics, key=lambda name: metrics[name].means()["ndcg@100"])
    for name, figures in metrics.items():
        bounds, means = intervals(figures), figures.means()
        behind = paired_difference(
            figures.per_user["ndcg@100"], metrics[best].per_user["ndcg@100"]
        )
        lines: dict[str, Any] = {}
        for measure in WITH_INTERVAL:
            lines[measure] = bounds[measure].mean
            lines[f"{measure}_interval"] = [bounds[measure].low, bounds[measure].high]
        emit(
            f"recommend {section}", method=name, **lines, **{key: means[key] for key in MEANS},
            **{"coverage@50": means["coverage@50"]},
            ndcg_by_split=[run.metrics.means()["ndcg@100"] for run in runs[name]],
            behind_best=[behind.mean, behind.standard_error],
            fit_seconds=np.mean([run.seconds for run in runs[name]]), splits=len(runs[name]),
            details=[{k: v for k, v in run.details.items() if k != "place"} for run in runs[name]],
        )  # fmt: skip


def read_pairs(folder: Path) -> csr_array:
    """The lines `user item 1` of a data set's files, each pair once."""
    pairs = np.concatenate([np.loadtxt(folder / name, np.int64, usecols=(0, 1)) for name in FILES])
    users, items = np.unique(pairs, axis=0).T
    return csr_array((np.ones(len(users)), (users, items)))


def reset_peak() -> None:
    """Count peak memory from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What some work returns, its seconds, and by how many MB memory rose meanwhile."""
    reset_peak()
    before, began = peak_mb(), time.perf_counter()
    result = work()
    return result, time.perf_counter() - began, peak_mb() - before


def speed_of_ease(methods: list[str], users: int = 20_000, items: int = 5_000) -> None:
    """NumPy's factor and solve, the peer's EASE, and ours."""
    train = sparse_history(0, users, items)
    gram = (train.T @ train).toarray() + 100 * np.eye(items)
    _, cholesky, _ = timed(lambda: np.linalg.cholesky(gram))
    _, solve, megabytes = timed(lambda: np.linalg.solve(gram, np.eye(items)))
    shape = {"users": users, "items": items}
    emit("recommend speed", what="NumPy", **shape, cholesky_seconds=cholesky,
         solve_seconds=solve, peak_mb=megabytes)  # fmt: skip
    del gram
    validation = Judged.of(train[:1_000], 0)
    if "EASE" in methods:
        _, seconds, megabytes = timed(lambda: PEERS["EASE"].prepare(train, 0)(penalty=100))
        emit("recommend speed", what="fit EASE, peer", **shape, fit_seconds=seconds,
             peak_mb=megabytes)  # fmt: skip
    if "keyhole" in methods:
        own, seconds, megabytes = timed(lambda: own_models(train, validation, 0, ["EASE"]))
        for name in own:
            emit("recommend speed", what=f"fit {name}", **shape, fit_seconds=seconds,
                 peak_mb=megabytes)  # fmt: skip


def speed_of_lists(methods: list[str], users: int = 100_000, count: int = 10) -> None:
    """The top of the catalogue for many users, by implicit's own function and by our models."""
    history = sparse_history(0, users)
    shape = {"users": users, "items": history.shape[1], "pairs": history.nnz}
    train = history[: users // 5]
    if "iALS" in methods:
        from implicit.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(64, iterations=5, num_threads=1, random_state=0)
        model.fit(csr_matrix(train, dtype=np.float32), show_progress=False)
        matrix = csr_matrix(history, dtype=np.float32)
        _, seconds, megabytes = timed(
            lambda: model.recommend(np.arange(users), matrix, N=count, recalculate_user=True)
        )
        emit("recommend speed", what="lists, iALS of 64 factors", **shape, seconds=seconds,
             peak_mb=megabytes)  # fmt: skip
    if "keyhole" in methods:
        linear = SolvedLinear(300.0).fit(train)
        lists = csr_array(history, dtype=np.float32)
        _, seconds, megabytes = timed(lambda: best_items(linear, lists, count))
        emit("recommend speed", what="lists, linear", **shape, seconds=seconds,
             peak_mb=megabytes)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--without", nargs="+", default=[], help="methods to leave out")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--peers", type=Path, help="folder to keep peers' runs in")
    options = parser.parse_args()
    methods = [m for m in ("keyhole", *PEERS) if m not in options.without]
    seeds = range(options.splits)
    with threadpool_limits(1):
        if "dense" in options.only:
            splits = [Split.of(dense_history(seed), seed) for seed in seeds]
            compare("dense", splits, methods, options.peers)
        if "nets" in options.only and "keyhole" in methods:
            compare_nets([Split.of(dense_history(seed, *FEWER), seed) for seed in seeds])
        if "times" in options.only:
            splits = [Split.by_time(timed_history(seed)) for seed in seeds]
            compare("times", splits, methods, options.peers)
        if "speed" in options.only:
            speed_of_ease(methods)
            speed_of_lists(methods)
        for section in ("citeulike", "lastfm"):  # last: it stops where the files are absent
            if section in options.only:
                history = read_pairs(data(section))
                splits = [Split.of(history, seed) for seed in seeds]
                compare(section, splits, methods, options.peers)


if __name__ == "__main__":
    main()
