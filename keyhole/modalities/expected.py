"""Expected values in words: a range or a set of levels with probability 0.9."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHARE = 0.9  # of held-out values lies within what is said to be expected
LEVEL = f"({100 * SHARE:.0f} %)"
UNKNOWN = "cannot say: no row like this in training"
MOST_NAMED = 3  # levels that are expected; of more, the rest are counted


@dataclass(frozen=True)
class Prediction:
    """What a model says of one hidden column in some rows, in cells as (row, cell).

    `low` and `high` hold `SHARE` of held-out cells between them; of the sine of a cycle they are
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
        likely = order[row, : count if count <= MOST_NAMED + 1 else MOST_NAMED]
        listed = [names[level] for level in likely.tolist()]
        if count > len(listed):
            listed.append(f"{count - len(listed):,} others")
        said = " or ".join(filter(None, [", ".join(listed[:-1]), listed[-1]]))
        texts.append(f"{said} ({100 * total[row, count - 1]:.0f} %)")
    return Expected(texts, fits, np.ones(len(share), bool))


def expected_range(
    numbers: np.ndarray, low: np.ndarray, high: np.ndarray, met: Sequence[float]
) -> Expected:
    """The ranges that numbers should lie in; `met` are the ends of what training held."""
    texts = [f"{text} {LEVEL}" for text in range_texts(low, high)]
    fits, known = within(numbers, low, high), ~outside(low, high, met)
    written = np.column_stack([_as_written(part) for part in (numbers, low, high)])
    return known_only(texts, fits, known, written)


def known_only(
    texts: list[str], fits: np.ndarray, known: np.ndarray, numbers: np.ndarray
) -> Expected:
    """What was expected, or that it cannot be said."""
    said = [text if sure else UNKNOWN for text, sure in zip(texts, known, strict=True)]
    numbers = np.column_stack([numbers[:, :1], np.where(known[:, None], numbers[:, 1:], np.nan)])
    return Expected(said, fits & known, known, numbers)


def with_point_mass(
    value: float, point_mass: str, at_point_mass: np.ndarray, share: np.ndarray, rest: Expected
) -> Expected:
    """What was expected where a column has a point mass of probability `share`: it, or both.

    `rest` is what was expected of the other values; `at_point_mass` says which rows hold it.
    """
    likely, possible = share >= SHARE, share > 1 - SHARE
    texts = list(rest.texts)
    for i in np.flatnonzero(possible):
        texts[i] = (
            f"{point_mass} ({100 * share[i]:.0f} %)"
            if likely[i]
            else f"{point_mass} or {texts[i]}"
        )
    fits = np.where(at_point_mass, possible, rest.fits & ~likely)
    numbers = np.array(rest.numbers)
    numbers[at_point_mass, 0], numbers[likely, 1:] = value, value
    return known_only(texts, fits, rest.known | likely, numbers)


def outside(low: np.ndarray, high: np.ndarray, ends: Sequence[float]) -> np.ndarray:
    """True where a range lies wholly beyond these ends: nothing like it was met."""
    return (low > ends[1]) | (high < ends[0])


def whole(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers within a range, the nearest ones where there are none."""
    inner, outer = np.ceil(low - 1e-6), np.floor(high + 1e-6)
    empty = inner > outer
    first, last = np.where(empty, np.round(low), inner), np.where(empty, np.round(high), outer)
    return first + 0.0, last + 0.0  # no negative zero


def within(numbers: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """True where a number lies within a range, all rounded as they are written."""
    numbers, low, high = (_as_written(part) for part in (numbers, low, high))
    return (low <= numbers) & (numbers <= high)


def _as_written(numbers: np.ndarray) -> np.ndarray:
    written = np.array([float(f"{n:.4g}") for n in numbers.tolist()])
    return np.where(np.abs(numbers) >= 1e4, np.round(numbers), written)


def number_texts(numbers: np.ndarray) -> list[str]:
    """Numbers as a person would write them: four digits, those from 10,000 on in full."""
    texts = [f"{n:,.4g}" for n in numbers.tolist()]
    size = np.abs(numbers)
    for i in np.flatnonzero((size >= 1e4 - 0.5) & (size < 1e15)):
        texts[i] = f"{numbers[i]:,.0f}"
    for i in np.flatnonzero(np.isnan(numbers)):
        texts[i] = "missing"
    return texts


def range_texts(low: np.ndarray, high: np.ndarray) -> list[str]:
    """«12 to 15», or one number where both ends read the same."""
    ends = zip(number_texts(low), number_texts(high), strict=True)
    return [a if a == b else f"{a} to {b}" for a, b in ends]


def shorten(text: str, most: int = 40) -> str:
    """The text, cut with an ellipsis where it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
