"""Many columns of one measure, as the pixels of small pictures: standardised by one scale.

Each by its own would blow up the ones that hardly vary, such as a corner's.
"""

from collections.abc import Sequence

import numpy as np

from keyhole.columns.profile import Profile

LEAST_COLUMNS = 16
LEAST_SHARE = 0.5  # of the columns reach over most of the common range


def measure(profiles: Sequence[Profile]) -> float | None:
    """The scale that the columns share: their root mean variance; None where they share none."""
    varying = [p for p in profiles if p.numeric and p.most > p.least]
    variance = sum(float(p.numbers().var()) for p in varying)
    return float(np.sqrt(variance / len(varying))) if varying and variance > 0 else None


def look_alike(profiles: Sequence[Profile]) -> bool:
    """True for many columns, all of numbers, with more than two values, over one range."""
    held = [p for p in profiles if p.seen]
    varying = [p for p in held if p.numeric and p.most > p.least]
    if len(varying) < LEAST_COLUMNS or not all(p.numeric and not p.not_numbers for p in held):
        return False
    least, most = min(p.least for p in varying), max(p.most for p in varying)
    room = 0.1 * (most - least)
    wide = [p.least <= least + room and p.most >= most - room for p in varying]
    two = all(len(p.levels) == 2 and not p.overflow for p in varying)
    return float(np.mean(wide)) >= LEAST_SHARE and not two
