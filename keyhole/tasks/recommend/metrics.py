"""How good are ranked lists of items? Measures per user, their intervals, and differences.

A list is judged against the items that its user was found to want (held-out items). All measures
at k look at the first k items of a list, and all but novelty are between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Num
from scipy.sparse import csr_array

from keyhole.errors import DataError, SettingError
from keyhole.tasks.recommend.splits import interactions_of, item_counts

KS = (20, 50, 100)
HEAD_SHARE = 0.8  # of training interactions: the most popular items that hold it are the head
BLOCK_USERS = 4_096  # judged at a time, so that memory does not grow with users
BLOCK_DRAWS = 1 << 21  # draws of users that a block of bootstrap resamples holds

PerUser = Float[np.ndarray, " user"]
Lists = Int64[np.ndarray, "user rank"]


@dataclass(frozen=True)
class RankingMetrics:
    """Measures of each user's list by name, as `ndcg@100`; NaN for users who are not judged.

    `coverage` has `coverage@k`: the share of the catalogue that is in any judged user's first k
    items (catalogue coverage; Ge et al. 2010, Beyond accuracy).
    """

    per_user: dict[str, PerUser]
    coverage: dict[str, float]

    def means(self) -> dict[str, float]:
        """The mean of each measure over the users it has a value for, and coverage."""
        observed = {name: v[~np.isnan(v)] for name, v in self.per_user.items()}
        means = {name: float(v.mean()) if len(v) else np.nan for name, v in observed.items()}
        return means | self.coverage


@dataclass(frozen=True)
class Interval:
    """A mean over users and its bootstrap interval; NaN where no user has a value."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The mean difference between two lists of the same users, and its standard error."""

    mean: float
    standard_error: float


def ranking_metrics(
    top: Lists,
    held_out: csr_array,
    popularity: Num[np.ndarray, " item"],
    ks: Sequence[int] = KS,
) -> RankingMetrics:
    """Measures of ranked lists; users without held-out items are left out (NaN).

    `top` has positions of items, best first, each at most once in a list; -1 where a list is
    shorter. A list that ends before k found nothing at its missing places. `popularity` counts
    each item's training interactions. With n held-out items:

    - `recall@k`: hits / min(k, n) (Liang et al. 2018, section 4.2);
    - `ndcg@k`: each hit counts 1 / log2(1 + rank); divided by what min(k, n) hits in front would
      count (the same section; Järvelin & Kekäläinen 2002, with gains of 0 and 1);
    - `map@k`: mean precision at the ranks of hits, missed ones as 0; divided by min(k, n)
      (Manning et al. 2008, section 8.4, truncated at k);
    - `mrr@k`: 1 / rank of the first hit, 0 without any (Voorhees 1999, the TREC-8 report);
    - `tail_recall@k`: recall of held-out items outside the head, see `tail_items`; NaN without;
    - `novelty@k`: mean bits, -log2 of the share of training interactions that an item has; NaN
      for an empty list (Vargas & Castells 2011, free discovery). An item without interactions
      counts as if it had one.

    Raises: DataError if shapes do not match, SettingError if a k is below 1.
    """
    _check(top, held_out, popularity, ks)
    top = top[:, : max(ks)]
    interactions, catalogue = interactions_of(held_out), _Catalogue.of(popularity)
    starts = range(0, max(len(top), 1), BLOCK_USERS)  # at least one, so that all names exist
    blocks = []
    for start in starts:
        users = slice(start, start + BLOCK_USERS)
        lists = _JudgedLists.of(top[users], interactions[users], catalogue)
        blocks.append({name: v for k in ks for name, v in lists.at(k).items()})
    per_user = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    judged = top[item_counts(interactions) > 0]
    return RankingMetrics(
        per_user, {f"coverage@{k}": _coverage(judged[:, :k], len(popularity)) for k in ks}
    )


def tail_items(
    popularity: Num[np.ndarray, " item"], head_share: float = HEAD_SHARE
) -> Bool[np.ndarray, " item"]:
    """True for items outside the head: the fewest items that hold `head_share` of interactions.

    Of equally popular items the first ones are in the head.

    Source: Cremonesi et al. 2010, Performance of recommender algorithms on top-N recommendation
    tasks (there the head holds a third of the ratings).
    """
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    tail = np.empty(len(popularity), bool)
    tail[order] = before >= head_share * popularity.sum()
    return tail


def intervals(
    metrics: RankingMetrics, seed: int = 0, resamples: int = 1_000, share: float = 0.95
) -> dict[str, Interval]:
    """The mean of each per-user measure with its percentile bootstrap interval over users.

    A resample draws users with replacement, the same ones for all measures.

    Source: Efron 1979, Bootstrap methods.
    """
    if not metrics.per_user:
        return {}
    values = np.stack(list(metrics.per_user.values()), 1)
    observed = ~np.isnan(values)
    sums = _resampled(np.hstack([np.where(observed, values, 0), observed]), seed, resamples)
    means = _ratio(*np.split(sums, 2, axis=1))
    levels = (0.5 - share / 2, 0.5 + share / 2)
    result = {}
    for i, name in enumerate(metrics.per_user):
        drawn = means[:, i][~np.isnan(means[:, i])]
        low, high = np.quantile(drawn, levels) if len(drawn) else (np.nan, np.nan)
        mean = values[observed[:, i], i].mean() if len(drawn) else np.nan
        result[name] = Interval(float(mean), float(low), float(high))
    return result


def paired_difference(a: PerUser, b: PerUser) -> Difference:
    """Mean of a - b over the users who have both values, with its standard error.

    The standard error is NaN for fewer than two users.
    """
    differences = a - b
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    return Difference(
        float(differences.mean()) if count else np.nan,
        float(differences.std(ddof=1) / np.sqrt(count)) if count > 1 else np.nan,
    )


@dataclass(frozen=True)
class _Catalogue:
    """What measures need to know of each item: is it in the tail, and its information in bits."""

    tail: Bool[np.ndarray, " item"]
    bits: Float[np.ndarray, " item"]

    @classmethod
    def of(cls, popularity: Num[np.ndarray, " item"]) -> _Catalogue:
        total = max(popularity.sum(), 1)
        return cls(tail_items(popularity), -np.log2(np.maximum(popularity, 1) / total))


@dataclass(frozen=True)
class _JudgedLists:
    """Lists of a block of users: which of their items are hits, in the tail, and how novel."""

    hits: Bool[np.ndarray, "user rank"]
    tail_hits: Bool[np.ndarray, "user rank"]
    listed: Bool[np.ndarray, "user rank"]
    bits: Float[np.ndarray, "user rank"]  # 0 at missing places
    wanted: Int64[np.ndarray, " user"]  # items held out
    wanted_tail: Int64[np.ndarray, " user"]

    @classmethod
    def of(cls, top: Lists, held_out: csr_array, catalogue: _Catalogue) -> _JudgedLists:
        """`held_out` has sorted positions, see `interactions_of`."""
        listed = top >= 0
        hits = _contains(held_out, top, len(catalogue.tail)) & listed
        tail = np.append(catalogue.tail, False)  # the last, for -1: a missing place
        wanted_before = np.concatenate([[0], np.cumsum(catalogue.tail[held_out.indices])])
        return cls(
            hits=hits, tail_hits=hits & tail[top], listed=listed,
            bits=np.append(catalogue.bits, 0.0)[top], wanted=item_counts(held_out),
            wanted_tail=np.diff(wanted_before[held_out.indptr]),
        )  # fmt: skip

    def at(self, k: int) -> dict[str, PerUser]:
        """All measures at k."""
        hits, listed = self.hits[:, :k], self.listed[:, :k]
        ranks = np.arange(1, hits.shape[1] + 1)
        findable = np.minimum(self.wanted, k)
        discounts = 1 / np.log2(np.arange(2, k + 2))
        ideal = np.concatenate([[0], np.cumsum(discounts)])[findable]
        precision = np.cumsum(hits, 1) / ranks
        values = {
            "recall": _ratio(hits.sum(1), findable),
            "ndcg": _ratio(hits @ discounts[: len(ranks)], ideal),
            "map": _ratio((precision * hits).sum(1), findable),
            "mrr": (hits / ranks).max(1, initial=0),
            "tail_recall": _ratio(self.tail_hits[:, :k].sum(1), np.minimum(self.wanted_tail, k)),
            "novelty": _ratio(self.bits[:, :k].sum(1), listed.sum(1)),
        }
        judged = self.wanted > 0
        return {f"{name}@{k}": np.where(judged, v, np.nan) for name, v in values.items()}


def _contains(held_out: csr_array, top: Lists, items: int) -> Bool[np.ndarray, "user rank"]:
    """Is each listed item among its user's? One search for all: (user, item) as one number."""
    users = np.arange(len(top))
    rows = np.repeat(users, item_counts(held_out))
    keys = rows * items + held_out.indices
    listed = users[:, None] * items + top
    return np.append(keys, -1)[np.searchsorted(keys, listed)] == listed


def _coverage(top: Lists, items: int) -> float:
    """The share of items that are in a list; 0 of an empty catalogue."""
    listed = np.zeros(items + 1, bool)
    listed[top] = True
    return float(listed[:items].sum() / max(items, 1))


def _resampled(
    values: Float[np.ndarray, "user value"], seed: int, resamples: int
) -> Float[np.ndarray, "resample value"]:
    """Sums over bootstrap draws of users; how often each was drawn is held for a block only."""
    users, rng = len(values), np.random.default_rng(seed)
    sums = np.zeros((resamples, values.shape[1]))
    block = max(1, BLOCK_DRAWS // max(users, 1))
    for start in range(0, resamples if users else 0, block):
        count = min(block, resamples - start)
        drawn = rng.integers(users, size=(count, users)) + users * np.arange(count)[:, None]
        times_drawn = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users)
        sums[start : start + count] = times_drawn.astype(float) @ values
    return sums


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Their ratio; NaN where the denominator is 0."""
    result = np.full(numerators.shape, np.nan)
    return np.divide(numerators, denominators, out=result, where=denominators > 0)


def _check(
    top: Lists, held_out: csr_array, popularity: Num[np.ndarray, " item"], ks: Sequence[int]
) -> None:
    if not ks or min(ks) < 1:
        raise SettingError(f"ks={ks!r}: give lengths of lists of at least 1, such as (20, 100)")
    if held_out.shape != (len(top), len(popularity)):
        raise DataError(
            f"held_out has shape {held_out.shape}, expected ({len(top)}, {len(popularity)}): "
            "a row for each list of `top`, a column for each item of `popularity`"
        )
    if top.size and not -1 <= top.min() <= top.max() < len(popularity):
        raise DataError(f"`top` has an item outside -1 to {len(popularity) - 1}")
