"""Generated interactions: tastes of low rank, tastes that move, a large sparse catalogue.

Dense, like movies: user u takes item i with log odds `taste_u . taste_i + popularity_i`, drawn
without replacement. The number of items of a user is log-normal. Sparse, like a shop: each user
belongs to a group, and each group draws from its own order of the items, with Zipf's popularity.
"""

import numpy as np
from scipy.sparse import csr_array

RANK, TASTE, POPULARITY = 12, 1.5, 1.2  # the last two: standard deviations of log odds
FEWEST = 10  # items of a user
GROUPS, COMMON = 50, 0.3  # share of a sparse user's draws that all groups have in common
REPEATS = 1.15  # draws for each different item that a sparse user gets


def dense_history(
    seed: int, users: int = 3_000, items: int = 1_500, density: float = 0.05
) -> csr_array:
    """Users and items of a low rank with popularity; about this share of pairs is there."""
    rng = np.random.default_rng([seed, 0])
    tastes = rng.normal(size=(users, RANK)) @ rng.normal(size=(RANK, items)) / np.sqrt(RANK)
    log_odds = TASTE * tastes + POPULARITY * rng.normal(size=items)
    spread = 0.7
    counts = density * items * np.exp(spread * rng.normal(size=users) - spread**2 / 2)
    counts = np.clip(counts.round().astype(int), FEWEST, items // 2)
    # The largest of log odds with Gumbel noise are draws without replacement (Vieira 2014).
    order = np.argsort(-(log_odds + rng.gumbel(size=log_odds.shape)), axis=1)
    taken = np.arange(items) < counts[:, None]
    starts = np.concatenate([[0], np.cumsum(counts)])
    history = csr_array((np.ones(counts.sum()), order[taken], starts), (users, items))
    history.sort_indices()
    return history


def timed_history(
    seed: int, users: int = 1_500, items: int = 500, density: float = 0.05
) -> csr_array:
    """When each user took each item, from 1; from the first to the last a taste is replaced."""
    rng = np.random.default_rng([seed, 2])
    directions = rng.normal(size=(RANK, items)) / np.sqrt(RANK)
    first, last = rng.normal(size=(2, users, RANK))
    popularity = POPULARITY * rng.normal(size=items)
    counts = np.exp(0.5 * rng.normal(size=users)) * density * items
    counts = np.clip(counts.round().astype(int), FEWEST, items // 4)
    times = np.zeros((users, items), np.float32)
    for step in range(counts.max()):
        active = np.flatnonzero(step < counts)
        turn = np.pi / 2 * (step / (counts[active] - 1))[:, None]
        tastes = np.cos(turn) * first[active] + np.sin(turn) * last[active]
        log_odds = TASTE * tastes @ directions + popularity
        log_odds += rng.gumbel(size=log_odds.shape)
        log_odds[times[active] > 0] = -np.inf
        times[active, log_odds.argmax(1)] = step + 1
    return csr_array(times)


def sparse_history(
    seed: int, users: int = 100_000, items: int = 10_000, each: int = 30
) -> csr_array:
    """Users with about `each` items."""
    rng = np.random.default_rng([seed, 1])
    draws = round(REPEATS * each)
    cumulative = np.cumsum(1 / np.arange(10, items + 10))
    places = np.searchsorted(cumulative / cumulative[-1], rng.random((users, draws)))
    orders = np.stack([rng.permutation(items) for _ in range(GROUPS + 1)])
    groups = np.broadcast_to(rng.integers(1, GROUPS + 1, (users, 1)), places.shape)
    chosen = orders[np.where(rng.random(places.shape) < COMMON, 0, groups), places]
    starts = draws * np.arange(users + 1)
    history = csr_array((np.ones(chosen.size), chosen.ravel(), starts), (users, items))
    history.sum_duplicates()
    history.data[:] = 1
    return history
