"""Is at most a tenth of the alarms of `--fdr 0.1` false, and how many bad rows alarm?

    python -m benchmarks.fdr [--repeats 200] [--only NAME ...]

A detector is fitted once on 20,000 normal rows (a tenth of them calibrates), and scores other
rows. In each repeat, rows are drawn from these: 2,000 new normal rows to calibrate, and 20,000
rows to judge together, of which 200 are bad (*none*: no bad row).

*Mixed* is a generated table of numbers, counts and levels. Its bad rows break one combination or
have one large value. The other sets are the largest tables of ADBench; they need their files.

*Tail*: the p-values of keyhole, with a generalised Pareto tail beyond the largest calibration
score. *Rank*: ranks among the same calibration rows. *Oracle*: ranks among all normal rows that
were scored.

`fdp` is the mean share of false alarms over the repeats, and `fdp_se` its standard error. `power`
is the share of bad rows that alarm. `raised` is the share of repeats with an alarm, and `tail` the
share of repeats in which a tail could be fitted. `few` has 500 calibration rows instead of 2,000.

Bar: fdp at most .1 within two standard errors.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from benchmarks.common import DATA, emit
from keyhole import AnomalyDetector, Autoencoder
from keyhole.tasks.detect.calibration import Calibration, Discoveries

SHARE, FIT, JUDGED, BAD = 0.1, 20_000, 20_000, 200
SETS = ("33_skin", "16_http", "8_celeba", "32_shuttle")
COUNTRIES = np.array(["FR", "DE", "IT", "ES", "PL"])
MOST_NORMAL = 150_000


def mixed(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Normal rows of a made table: amounts, counts, levels, and numbers that go together."""
    size = rng.normal(size=rows)
    country = rng.choice(len(COUNTRIES), rows, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    return {
        "amount": np.exp(3 + 0.8 * size + 0.4 * rng.normal(size=rows)),
        "weight": 2 * size + country + 0.5 * rng.normal(size=rows),
        "visits": rng.negative_binomial(2, 0.5, rows).astype(float),
        "age": rng.uniform(18, 90, rows).round(),
        "country": COUNTRIES[country],
        "currency": np.where(rng.random(rows) < 0.97, country, rng.integers(0, 5, rows)) * 1.0,
    }


def spoilt(rows: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The rows, each with one thing wrong: a large amount, many visits, or a broken relation."""
    kind = rng.integers(0, 3, len(rows["amount"]))
    rows["amount"] = np.where(kind == 0, rows["amount"] * rng.uniform(5, 60, len(kind)),
                              rows["amount"])  # fmt: skip
    rows["visits"] = np.where(kind == 1, rng.integers(14, 41, len(kind)), rows["visits"])
    rows["weight"] = np.where(kind == 2, -2 * rows["weight"] + 4, rows["weight"])
    return rows


def tables(only: list[str]) -> Iterator[tuple[str, object, object, object]]:
    """Name, rows to fit, other normal rows, and bad rows."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    if "mixed" in only:
        bad = pa.table(spoilt(mixed(4_000, rng), rng))
        yield "mixed", pa.table(mixed(FIT, rng)), pa.table(mixed(MOST_NORMAL, rng)), bad
    for name in SETS:
        path = DATA / "adbench" / f"{name}.npz"
        if name not in only or not path.exists():
            continue
        X, y = (np.load(path, allow_pickle=False)[part] for part in ("X", "y"))
        normal = rng.permutation(np.flatnonzero(y == 0))
        fit, rest = normal[:FIT], normal[FIT : FIT + MOST_NORMAL]
        yield name, X[fit], X[rest], X[y == 1]


def judge(p_value: np.ndarray, bad: int) -> tuple[float, float, float]:
    """False share, power and whether any alarm: Benjamini and Hochberg's rule; bad rows first."""
    ranked = np.sort(p_value)
    within = ranked * len(ranked) <= SHARE * np.arange(1, len(ranked) + 1)
    alarm = p_value <= (ranked[within].max() if within.any() else -1)
    return (
        alarm[bad:].sum() / max(alarm.sum(), 1),
        alarm[:bad].mean() if bad else 0.0,
        float(alarm.any()),
    )


def by_tail(calibration: Calibration, scores: np.ndarray, bad: int) -> tuple[float, float, float]:
    """The same by keyhole's own counting."""
    discoveries = Discoveries(calibration, SHARE)
    discoveries.add(scores)
    alarm = scores > calibration.threshold(discoveries.false_alarm_rate())
    return (
        alarm[bad:].sum() / max(alarm.sum(), 1),
        alarm[:bad].mean() if bad else 0.0,
        float(alarm.any()),
    )


def ranks(calibrating: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Conformal p-values."""
    above = len(calibrating) - np.searchsorted(np.sort(calibrating), scores)
    return (1 + above) / (len(calibrating) + 1)


def run(name: str, normal: np.ndarray, bad: np.ndarray, repeats: int) -> None:
    """The lines of one table, from the scores of its rows."""
    for calibrating, spoilt_rows in ((2_000, BAD), (500, BAD), (2_000, 0)):
        figures: dict[str, list] = {"tail": [], "rank": [], "oracle": []}
        fitted = []
        judged = min(JUDGED, len(normal) - calibrating - spoilt_rows)
        for repeat in range(repeats):
            rng = np.random.default_rng(repeat)
            drawn = rng.permutation(len(normal))[: calibrating + judged - spoilt_rows]
            held_out = normal[drawn[:calibrating]]
            spoils = rng.choice(bad, min(spoilt_rows, len(bad)), replace=False)
            scores = np.r_[spoils, normal[drawn[calibrating:]]]
            calibration = Calibration.of(held_out)
            fitted.append(calibration.tail is not None)
            figures["tail"].append(by_tail(calibration, scores, len(spoils)))
            figures["rank"].append(judge(ranks(held_out, scores), len(spoils)))
            figures["oracle"].append(judge(ranks(normal, scores), len(spoils)))
        case = "none" if not spoilt_rows else "few" if calibrating == 500 else "usual"
        for method, found in figures.items():
            fdp, power, raised = np.array(found).T
            se = fdp.std() / np.sqrt(repeats)
            emit(
                "fdr", table=name, case=case, method=method, fdp=fdp.mean(), fdp_se=se,
                held=bool(fdp.mean() <= SHARE + 2 * se), power=power.mean(), raised=raised.mean(),
                tail=float(np.mean(fitted)), calibration=calibrating, judged=judged,
                repeats=repeats,
            )  # fmt: skip


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=["mixed", *SETS])
    options = parser.parse_args()
    for name, fit, normal, bad in tables(options.only):
        detector = AnomalyDetector(Autoencoder(random_state=0)).fit(fit)
        run(name, -detector.score_samples(normal), -detector.score_samples(bad), options.repeats)


if __name__ == "__main__":
    main()
