"""Summaries of the figures of benchmarks.anomaly: means, ranks, false alarms, a table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Entry = dict[str, Any]  # the figures of one fit, or "failed"
PROTOCOLS = ("clean", "contaminated")
RATES = ("0.01", "0.05", "0.1")


def key(entry: Entry) -> tuple[Any, ...]:
    """What names a fit."""
    return entry["set"], entry["protocol"], entry["seed"], entry["method"]


def read(path: Path) -> list[Entry]:
    """The entries of a run: a list in JSON, or of an unfinished run (.part) one a line."""
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines()]


def merged(paths: list[Path]) -> list[Entry]:
    """The entries of several runs; the last one counts where they contain the same fit."""
    return list({key(entry): entry for path in paths for entry in read(path)}.values())


def summary(entries: list[Entry], protocol: str) -> list[dict[str, Any]]:
    """A line a method: means over sets and seeds, mean ranks, CPU seconds of the suite a seed."""
    by_method = figures(entries, protocol)
    ranks = {measure: _ranks(by_method, measure) for measure in ("auroc", "ap")}
    lines = []
    for method, sets in by_method.items():
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
    runs_of: dict[str, dict[str, list[Entry]]] = {}
    for entry in entries:
        if entry["protocol"] == protocol:
            runs_of.setdefault(entry["method"], {}).setdefault(entry["set"], []).append(entry)
    return {
        method: {
            name: {key: float(np.mean([run[key] for run in runs])) for key in KEYS}
            for name, runs in sets.items()
            if all("auroc" in run for run in runs)
        }
        for method, sets in runs_of.items()
    }


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
                counted = f"{entry['set']}/{entry['seed']} at {rate}: {alarms} of {m}"
                outside.append(f"{counted}, {low:.0f} to {high:.0f}")
    return {
        "inside": {rate: float(np.mean(each)) for rate, each in inside.items()},
        "inside_all": float(np.mean([one for each in inside.values() for one in each])),
        "mean_realised": {rate: float(np.mean(shares)) for rate, shares in realised.items()},
        "outside": outside,
        "bar": "at least 0.97 inside",
    }


def not_first(entries: list[Entry]) -> dict[str, Any]:
    """For each protocol the sets where a peer's AUROC is higher: who, and by how much."""
    lines: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        by_method = figures(entries, protocol)
        lines[protocol] = {}
        for name, own in sorted(by_method.get("keyhole", {}).items()):
            rivals = {
                method: sets[name]["auroc"]
                for method, sets in by_method.items()
                if method != "keyhole" and name in sets
            }
            if rivals and max(rivals.values()) > own["auroc"]:
                best = max(rivals, key=lambda m: rivals[m])
                lines[protocol][name] = f"{own['auroc']:.3f}, {best} {rivals[best]:.3f}"
    return lines


def _ranks(by_method: dict[str, Any], measure: str) -> dict[str, float]:
    """The mean rank of each method over sets; one that did not finish a set is last there."""
    methods = list(by_method)
    names = sorted({name for sets in by_method.values() for name in sets})
    scores = [[by_method[m].get(name, {}).get(measure, -1.0) for m in methods] for name in names]
    if not names:  # no method finished a set
        return dict.fromkeys(methods, float("nan"))
    ranks = stats.rankdata(-np.array(scores), axis=1)
    return dict(zip(methods, ranks.mean(0).tolist(), strict=True))


def markdown(entries: list[Entry]) -> str:
    """Both protocols as tables, and keyhole's place on each set."""
    parts = []
    for protocol in PROTOCOLS:
        head = "| method | AUROC | AP | rank AUROC | rank AP | CPU s | sets |"
        parts.append(f"**{protocol}**\n\n{head}\n|---|---|---|---|---|---|---|")
        for line in summary(entries, protocol):
            parts[-1] += (
                f"\n| {line['method']} | {line['auroc']:.4f} | {line['ap']:.4f} | "
                f"{line['rank_auroc']:.2f} | {line['rank_ap']:.2f} | {line['cpu_seconds']:.0f} | "
                f"{line['sets']} |"
            )
    return "\n\n".join(parts) + "\n"
