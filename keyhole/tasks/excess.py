"""How many alarms there are beside those that chance alone would raise."""

from scipy import stats

CHANCE = 0.95  # quantile of the alarms that normal rows raise: what lies beyond is no chance


def beyond_chance(alarms: int, rows: int, rate: float, calibrated_on: int = 0) -> str:
    """How many of the rows alarm, how many would if all were normal, and how many more that is.

    `rate` is the false-alarm rate; by how much it may be missed depends on how many rows it was
    calibrated on, 0 where that is not known.
    """
    said = f"{alarms:,} {'alarm' if alarms == 1 else 'alarms'} in {rows:,} "
    said += "row" if rows == 1 else "rows"
    if not rows or not rate:
        return said
    said += f"; if all rows were normal, about {expected_alarms(rows, rate)} would be expected "
    said += f"at {100 * rate:.2g} %: "
    if alarms <= most_by_chance(rows, rate, calibrated_on):
        return said + "no more than chance, unless the training rows held such anomalies too"
    return said + f"about {max(alarms - rate * rows, 1):,.0f} more than chance"


def expected_alarms(rows: int, rate: float) -> str:
    """How many rows alarm on average where all are normal, in words."""
    expected = rate * rows
    return f"{expected:,.0f}" if expected >= 10 else f"{expected:.2g}"


def most_by_chance(rows: int, rate: float, calibrated_on: int = 0) -> float:
    """The 95 % quantile of the alarms among normal rows.

    The share that alarms beyond a threshold from n calibration rows is a draw from a beta
    distribution, so the number of alarms is beta-binomial. Source: Vovk 2012, section 2.
    """
    beyond = int(rate * (calibrated_on + 1) * (1 + 1e-12))
    if beyond < 1:
        return float(stats.binom.ppf(CHANCE, rows, rate))
    return float(stats.betabinom.ppf(CHANCE, rows, beyond, calibrated_on + 1 - beyond))
