"""Of many moments: which are far from all others, whether rows follow them, parts of cycles."""

import numpy as np

from keyhole.columns import cast

LEAST_ATOM = 0.01  # share of rows that makes a moment far from all others a value of its own
LEAST_VALUES = 5  # distinct moments from which on some of them can be called far from the others
APART = 3.0  # times the middle half of the distinct moments: a gap beyond which moments are far
FEW = 0.01  # share of distinct moments that may be far from the others
DAY_S = float(cast.DAY_S)
CYCLES_S = {"day": DAY_S, "week": 7 * DAY_S, "year": 365.2425 * DAY_S}
WEEK = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970 began on a Thursday
ORDERED, LEAST_ORDERED = 0.98, 20  # share of steps in one direction, of so many moments


def ordinary_of(met: np.ndarray) -> tuple[np.ndarray, list[float] | None]:
    """Which moments are not far from all others; of those that are, a frequent one and its share.

    Far is beyond a gap that is much wider than the middle half of the distinct moments, with few
    distinct moments behind it.
    """
    ordinary = ~np.isnan(met)
    values, counts = np.unique(met[ordinary], return_counts=True)
    if len(values) < LEAST_VALUES:
        return ordinary, None
    quarter, few = len(values) // 4, max(2, int(FEW * len(values)))
    gaps, width = np.diff(values), values[-1 - quarter] - values[quarter]
    wide = np.flatnonzero(gaps > APART * width)
    below, above = wide[wide < quarter], wide[wide >= len(gaps) - quarter]
    first = below[-1] + 1 if len(below) and below[-1] < few else 0
    last = above[0] if len(above) and len(gaps) - above[0] <= few else len(values) - 1
    ordinary &= (met >= values[first]) & (met <= values[last])
    apart = np.r_[counts[:first], np.zeros(last + 1 - first), counts[last + 1 :]]
    share = float(apart.max() / counts.sum())
    if share < LEAST_ATOM:
        return ordinary, None
    return ordinary, [float(values[apart.argmax()]), min(share, 1 - 0.5 / float(counts.sum()))]


def is_ordered(moments: np.ndarray) -> bool:
    """True where rows stand in the order of their moments, or backwards, but for a few."""
    steps = np.diff(moments)
    if len(np.unique(moments)) < LEAST_ORDERED:
        return False
    return bool(max((steps >= 0).mean(), (steps <= 0).mean()) >= ORDERED)


def cycle_text(cycle: str, first: float, last: float) -> str:
    """The part of a cycle between two angles: «08:10 to 19:40 of the day», «Mon to Fri»."""
    ends = [angle % (2 * np.pi) / (2 * np.pi) * CYCLES_S[cycle] for angle in (first, last)]
    if cycle == "week":
        return " to ".join(WEEK[int(end // DAY_S) % 7] for end in ends)
    stamps = [np.datetime64(int(end), "s") for end in ends]
    if cycle == "day":
        return " to ".join(str(stamp)[11:16] for stamp in stamps) + " of the day"
    return " to ".join(str(stamp)[5:10] for stamp in stamps) + " (month-day)"
