"""Summaries of the figures of benchmarks.anomaly: means, ranks, spread, false alarms, a table."""

from typing import Any

import numpy as np
from scipy import stats

Entry = dict[str, Any]
RATES = ("0.01", "0.05", "0.1")
DRAWS = 2_000  # of half of the sets


def summary(entries: list[Entry], protocol: str) -> list[dict[str, Any]]:
    """A line a method: means over sets and seeds, mean ranks, CPU seconds of the suite a seed."""
    held = figures(entries, protocol)
    ranks = {key: _ranks(held, key) for key in ("auroc", "ap")}
    lines = []
    for method, sets in held.items():
        auroc, ap, seconds = (np.mean([f[k] for f in sets.values()]) for k in KEYS)
        lines.append(
            {
                "method": method,
                "auroc": auroc,
                "ap": ap,
                "rank_auroc": ranks["auroc"][method],
                "rank_ap": ranks["ap"][method],
                "cpu_seconds": seconds * len(sets),
                "sets": len(sets),
            }
        )
    return sorted(lines, key=lambda line: -line["auroc"])


KEYS = ("auroc", "ap", "cpu_seconds")


def figures(entries: list[Entry], protocol: str) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of each method and set, means over seeds; a set that failed once is left out."""
    found: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        if entry["protocol"] == protocol:
            found.setdefault(entry["method"], {}).setdefault(entry["set"], []).append(entry)
    return {
        method: {
            name: {key: float(np.mean([run[key] for run in runs])) for key in KEYS}
            for name, runs in sets.items()
            if all("auroc" in run for run in runs)
        }
        for method, sets in found.items()
    }


def spread(entries: list[Entry], protocol: str) -> dict[str, Any]:
    """By how much keyhole leads the best peer, over all sets and over random halves of them.

    The best peer is chosen on each half anew, which favours the peers; a peer that did not
    finish some sets is compared on those that it did.
    """
    held, rng = figures(entries, protocol), np.random.default_rng(0)
    names = np.array(sorted(held["keyhole"]))
    halves = [rng.permutation(names)[: len(names) // 2] for _ in range(DRAWS)]
    found: dict[str, Any] = {}
    for key in ("auroc", "ap"):
        drawn = np.array([_lead(held, key, set(half)) for half in halves])
        found[key] = {
            "lead": _lead(held, key, set(names)),
            "lead_5_95": np.quantile(drawn, (0.05, 0.95)).tolist(),
            "ahead_in": float((drawn > 0).mean()),
        }
    return found


def _lead(held: dict[str, Any], key: str, names: set[str]) -> float:
    """How far keyhole is ahead of the peer that is nearest to it or beyond."""
    leads = []
    for method, sets in held.items():
        both = [n for n in names if n in sets]
        if method != "keyhole" and both:
            leads.append(np.mean([held["keyhole"][n][key] - sets[n][key] for n in both]))
    return float(min(leads)) if leads else float("nan")


def false_alarms(entries: list[Entry]) -> dict[str, Any]:
    """The share of (set, seed, rate) whose false alarms lie in the 99 % beta-binomial interval.

    Of m new rows, BetaBin(m, k, n + 1 - k) alarm, with k = floor(rate (n + 1)) of n calibration
    rows (Vovk 2012, proposition 2a). Clean training rows.
    """
    inside: dict[str, list[bool]] = {rate: [] for rate in RATES}
    realised: dict[str, list[float]] = {rate: [] for rate in RATES}
    outside = []
    for entry in entries:
        if entry["method"] != "keyhole" or entry["protocol"] != "clean" or "auroc" not in entry:
            continue
        n, m = entry["calibrated_on"], entry["normal_rows"]
        for rate in RATES:
            k, alarms = int(float(rate) * (n + 1) * (1 + 1e-12)), entry["alarms"][rate]
            low, high = stats.betabinom.ppf((0.005, 0.995), m, k, n + 1 - k) if k else (0, 0)
            inside[rate].append(bool(low <= alarms <= high))
            realised[rate].append(alarms / m)
            if not inside[rate][-1]:
                said = f"{entry['set']}/{entry['seed']} at {rate}: {alarms} of {m}"
                outside.append(f"{said}, {low:.0f} to {high:.0f}")
    return {
        "inside": {rate: float(np.mean(found)) for rate, found in inside.items()},
        "inside_all": float(np.mean([one for found in inside.values() for one in found])),
        "mean_realised": {rate: float(np.mean(found)) for rate, found in realised.items()},
        "outside": outside,
        "bar": "at least 0.97 inside",
    }


def not_first(entries: list[Entry]) -> dict[str, Any]:
    """For each protocol the sets where a peer's AUROC is higher: who, and by how much."""
    found = {}
    for protocol in ("clean", "contaminated"):
        held = figures(entries, protocol)
        mine = held["keyhole"]
        found[protocol] = {}
        for name, own in sorted(mine.items()):
            rivals = {m: s[name]["auroc"] for m, s in held.items() if m != "keyhole" and name in s}
            if rivals and max(rivals.values()) > own["auroc"]:
                best = max(rivals, key=lambda m: rivals[m])
                found[protocol][name] = f"{own['auroc']:.3f}, {best} {rivals[best]:.3f}"
    return found


def _ranks(held: dict[str, Any], key: str) -> dict[str, float]:
    """The mean rank of each method over sets; one that did not finish a set is last there."""
    methods = list(held)
    names = sorted({name for sets in held.values() for name in sets})
    scores = [[held[m].get(name, {}).get(key, -1.0) for m in methods] for name in names]
    ranks = stats.rankdata(-np.array(scores), axis=1)
    return dict(zip(methods, ranks.mean(0).tolist(), strict=True))


def markdown(entries: list[Entry]) -> str:
    """Both protocols as tables, and keyhole's place on each set."""
    parts = []
    for protocol in ("clean", "contaminated"):
        head = "| method | AUROC | AP | rank AUROC | rank AP | CPU s | sets |"
        parts.append(f"**{protocol}**\n\n{head}\n|---|---|---|---|---|---|---|")
        for line in summary(entries, protocol):
            parts[-1] += (
                f"\n| {line['method']} | {line['auroc']:.4f} | {line['ap']:.4f} | "
                f"{line['rank_auroc']:.2f} | {line['rank_ap']:.2f} | {line['cpu_seconds']:.0f} | "
                f"{line['sets']} |"
            )
    return "\n\n".join(parts) + "\n"
