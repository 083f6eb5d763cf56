"""Expected values in words: a range or a set of levels with probability 0.9."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHARE = 0.9  # of held-out values lies within what is expected
LEVEL = f"({100 * SHARE:.0f} %)"
UNKNOWN = "cannot say: no row like this in training"
MAX_NAMED = 3  # expected levels; of more, the rest are counted


@dataclass(frozen=True)
class Prediction:
    """The prediction of one masked column in some rows, (row, feature).

    `low` and `high` hold `SHARE` of held-out values between them; of the sine of a cycle they are
    angles. `levels` (row, level) are the probabilities of a category's levels.
    """

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    levels: np.ndarray | None = None


@dataclass(frozen=True)
class Expected:
    """What was expected in words, one a row.

    `fits`: the value lies within it; `known`: training rows tell what to expect. `numbers`
    (row, 3): the value and the ends of its range, NaN where there is none; None for levels.
    """

    texts: list[str]
    fits: np.ndarray
    known: np.ndarray
    numbers: np.ndarray | None = None


def expected_levels(share: np.ndarray, place: np.ndarray, names: list[str]) -> Expected:
    """The likeliest levels that reach `SHARE` together, from probabilities (row, level).

    `place` is that of each row's own level; one beyond the last was never met.
    """
    order = np.argsort(-share, axis=1, kind="stable")
    total = np.take_along_axis(share, order, 1).cumsum(1)
    size = np.minimum((total < SHARE - 1e-6).sum(1) + 1, share.shape[1])
    rank = (order == place[:, None]).argmax(1)
    fits = (rank < size) & (place < share.shape[1])
    texts = []
    for row, count in enumerate(size.tolist()):
        likely = order[row, : count if count <= MAX_NAMED + 1 else MAX_NAMED]
        listed = [names[level] for level in likely.tolist()]
        if count > len(listed):
            listed.append(f"{count - len(listed):,} others")
        levels = " or ".join(filter(None, [", ".join(listed[:-1]), listed[-1]]))
        texts.append(f"{levels} ({100 * total[row, count - 1]:.0f} %)")
    return Expected(texts, fits, np.ones(len(share), bool))


def expected_range(
    numbers: np.ndarray, low: np.ndarray, high: np.ndarray, met: Sequence[float]
) -> Expected:
    """The ranges that numbers should lie in; `met` are the ends of what training held.

    A number lies within its range if it does once all are rounded as they are written.
    """
    texts = [f"{text} {LEVEL}" for text in range_texts(low, high)]
    known = ~outside(low, high, met)
    numbers, low, high = (_as_written(part) for part in (numbers, low, high))
    fits = (low <= numbers) & (numbers <= high)
    return known_only(texts, fits, known, np.column_stack([numbers, low, high]))


def known_only(
    texts: list[str], fits: np.ndarray, known: np.ndarray, numbers: np.ndarray
) -> Expected:
    """What was expected, or that it cannot be said."""
    texts = [text if sure else UNKNOWN for text, sure in zip(texts, known, strict=True)]
    numbers = np.column_stack([numbers[:, :1], np.where(known[:, None], numbers[:, 1:], np.nan)])
    return Expected(texts, fits & known, known, numbers)


def with_point_mass(
    value: float, point_mass: str, at_point_mass: np.ndarray, share: np.ndarray, rest: Expected
) -> Expected:
    """What was expected where a column has a point mass of probability `share`: it, or both.

    `rest` is what was expected of the other values; `at_point_mass` says which rows hold it.
    """
    likely, possible = share >= SHARE, share > 1 - SHARE
    texts = list(rest.texts)
    for i in np.flatnonzero(possible):
        other = f"({100 * share[i]:.0f} %)" if likely[i] else f"or {texts[i]}"
        texts[i] = f"{point_mass} {other}"
    fits = np.where(at_point_mass, possible, rest.fits & ~likely)
    numbers = np.array(rest.numbers)
    numbers[at_point_mass, 0], numbers[likely, 1:] = value, value
    return known_only(texts, fits, rest.known | likely, numbers)


def outside(low: np.ndarray, high: np.ndarray, ends: Sequence[float]) -> np.ndarray:
    """True where a range lies wholly beyond these ends: nothing like it was met."""
    return (low > ends[1]) | (high < ends[0])


def whole(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers within a range, the nearest ones where there are none."""
    first, last = np.ceil(low - 1e-6), np.floor(high + 1e-6)
    empty = first > last
    first, last = np.where(empty, np.round(low), first), np.where(empty, np.round(high), last)
    return first + 0.0, last + 0.0  # no negative zero


def _as_written(numbers: np.ndarray) -> np.ndarray:
    written = np.array([float(f"{n:.4g}") for n in numbers.tolist()])
    return np.where(np.abs(numbers) >= 1e4, np.round(numbers), written)


def number_texts(numbers: np.ndarray) -> list[str]:
    """Numbers as a person would write them: four digits, those from 10,000 on in full."""

    def text(n: float) -> str:
        in_full = 1e4 - 0.5 <= abs(n) < 1e15
        return "missing" if np.isnan(n) else f"{n:,.0f}" if in_full else f"{n:,.4g}"

    return [text(n) for n in numbers.tolist()]


def range_texts(low: np.ndarray, high: np.ndarray) -> list[str]:
    """Ranges such as 12 to 15, or one number where both ends read the same."""
    ends = zip(number_texts(low), number_texts(high), strict=True)
    return [a if a == b else f"{a} to {b}" for a, b in ends]


def shorten(text: str, most: int = 40) -> str:
    """The text, cut with an ellipsis where it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
