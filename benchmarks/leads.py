"""By how much keyhole leads its peers: on random halves of the sets, and with intervals."""

from collections import Counter
from typing import Any

import numpy as np

from benchmarks.table import Entry, figures

SPLITS = 200  # of the sets into halves
AHEAD = 0.8  # bar: share of splits in which keyhole leads
DRAWS = 2_000  # of sets with replacement
BARS = {"auroc": 0.005, "ap": 0.01}  # mean lead over the splits


def gaps(entries: list[Entry], protocol: str, measure: str) -> tuple[list[str], np.ndarray]:
    """The peers, and keyhole's figure minus theirs (peer, set); NaN where a peer has none.

    Only sets and seeds on which keyhole ran count. If it failed on a set, its figure there is the
    lowest of the peers.
    """
    of_protocol = [entry for entry in entries if entry["protocol"] == protocol]
    ran = {(e["set"], e["seed"]) for e in of_protocol if e["method"] == "keyhole"}
    by_method = figures([e for e in of_protocol if (e["set"], e["seed"]) in ran], protocol)
    peers = [method for method in by_method if method != "keyhole"]
    names = sorted({name for peer in peers for name in by_method[peer]})
    table = np.array(
        [
            [by_method[method].get(name, {}).get(measure, np.nan) for name in names]
            for method in ("keyhole", *peers)
        ]
    )
    own, theirs = table[0], table[1:]
    return peers, np.where(np.isnan(own), np.nanmin(theirs, axis=0), own) - theirs


def means(weights: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Weighted means over the sets that a peer finished (draw, peer); NaN without such a set."""
    finished = np.isfinite(differences)
    total = weights @ finished.T.astype(float)
    sums = weights @ np.where(finished, differences, 0.0).T
    return np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)


def halves(entries: list[Entry], protocol: str) -> list[dict[str, Any]]:
    """A line a measure: keyhole's mean lead over the best peer on random halves of the sets.

    `lead` chooses the best peer on the measured half, `lead_all` on all sets, and `lead_other` on
    the other half. `ahead` is the share of splits with a lead above 0.
    """
    lines = []
    for measure, bar in BARS.items():
        peers, by_set = gaps(entries, protocol, measure)
        rng, count = np.random.default_rng(0), by_set.shape[1]
        order = np.array([rng.permutation(count) for _ in range(SPLITS)])
        half = (order < count // 2).astype(float)
        on_half = means(half, by_set)
        line: dict[str, Any] = {"what": measure}
        for way, weights in (("", half), ("_all", np.ones_like(half)), ("_other", 1 - half)):
            best = np.nanargmin(means(weights, by_set), axis=1)
            leads = on_half[np.arange(SPLITS), best]
            line |= {f"lead{way}": np.nanmean(leads), f"ahead{way}": np.mean(leads > 0)}
            line[f"best{way}"] = ", ".join(
                f"{peers[peer]} {times}" for peer, times in Counter(best.tolist()).most_common()
            )
        met = bool(line["lead"] >= bar and line["ahead"] >= AHEAD)
        lines.append(line | {"bar": f"lead {bar}, ahead {AHEAD}", "met": met})
    return lines


def differences(entries: list[Entry], protocol: str) -> list[dict[str, Any]]:
    """A line a peer: keyhole's mean minus the peer's, with a paired 95 % bootstrap interval."""
    lines: dict[str, dict[str, Any]] = {}
    for measure in BARS:
        peers, by_set = gaps(entries, protocol, measure)
        count = by_set.shape[1]
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)
        low, high = np.nanquantile(means(draws, by_set), (0.025, 0.975), axis=0)
        mean = means(np.ones((1, count)), by_set)[0]
        for place, peer in enumerate(peers):
            line = lines.setdefault(peer, {"method": peer})
            line[measure] = mean[place]
            line[f"{measure}_95"] = [low[place], high[place]]
            line["sets"] = int(np.isfinite(by_set[place]).sum())
    return sorted(lines.values(), key=lambda line: line["auroc"])
