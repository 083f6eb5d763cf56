"""The columns by which the map of the codes can be coloured, small enough for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.modalities.expected import number_texts
from keyhole.report.words import base64_of, plain

COLOUR_BYTES = 200_000  # of a page, for all columns
MAX_COLUMNS = 30
GAP = 15  # the colour of a missing value; values fit into half a byte
MAX_LEVELS = 11  # that have a colour of their own; the others share the next one


@dataclass(frozen=True)
class Colour:
    """A column's values as colours, from 0 to 14, and `GAP`.

    `names` are those of levels, the most frequent first; else `ends` are the least, the middle
    and the greatest number.
    """

    name: str
    values: Int64[np.ndarray, " point"]
    names: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The column as JSON for map.js: two values in a byte, the first in the low half."""
        even = np.append(self.values, GAP) if len(self.values) % 2 else self.values
        packed = (even[::2] | even[1::2] << 4).astype(np.uint8)
        return {"name": self.name, "names": self.names, "ends": self.ends,
                "values": base64_of(packed)}  # fmt: skip


def colours_of(table: Any, rows: Int64[np.ndarray, " point"]) -> list[Colour]:
    """The columns of a table as colours, as many as the page has room for, for these rows."""
    if table is None or not len(rows):
        return []
    most = int(COLOUR_BYTES / (0.67 * len(rows)))
    colours = []
    for name in table.column_names:
        if len(colours) >= min(most, MAX_COLUMNS):
            break
        colour = _colour(plain(name), table[name].combine_chunks().take(pa.array(rows)))
        if colour is not None:
            colours.append(colour)
    return colours


def _colour(name: str, values: Any) -> Colour | None:
    """A column as colours; None if all its values are equal."""
    kind = values.type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        numbers = pc.cast(values, pa.timestamp("us")) if pa.types.is_date(kind) else values
        numbers = cast.floats(pc.cast(numbers, pa.int64()))[0]
        return _numbers(name, numbers, [text[:16] for text in _in_order(values, numbers)])
    if pa.types.is_boolean(kind) or not cast.is_numeric(kind):
        return _levels(name, values)
    numbers = cast.floats(values)[0]
    return _numbers(name, numbers, _in_order(None, numbers))


def _in_order(values: Any, numbers: np.ndarray) -> list[str]:
    """The least, the middle and the greatest value as texts; empty without a value."""
    known = np.flatnonzero(np.isfinite(numbers))
    if not len(known):
        return []
    order = known[np.argsort(numbers[known], kind="stable")]
    places = order[[0, len(order) // 2, -1]]
    if values is None:
        return number_texts(numbers[places])
    return cast.texts(values.take(pa.array(places))).to_pylist()


def _numbers(name: str, numbers: np.ndarray, ends: list[str]) -> Colour | None:
    """Numbers by rank: as many rows have one colour as another."""
    known = np.isfinite(numbers)
    if not known.any() or np.ptp(numbers[known]) == 0:
        return None
    edges = np.unique(np.quantile(numbers[known], np.arange(1, GAP) / GAP))
    values = np.full(len(numbers), GAP)
    place = np.searchsorted(edges, numbers[known], side="right")
    values[known] = np.round(place * (GAP - 1) / max(len(edges), 1)).astype(int)
    return Colour(name, values, ends=tuple(map(plain, ends)))


def _levels(name: str, values: Any) -> Colour | None:
    """Levels by how frequent they are; the rare ones share a colour."""
    texts = np.array(
        [plain(t, 30) if t is not None else "" for t in cast.texts(values).to_pylist()]
    )
    missing = values.is_null().to_numpy(zero_copy_only=False)
    names, place, counts = np.unique(texts[~missing], return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.max() == 1:
        return None
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(names), int)
    rank[order] = np.arange(len(names))
    colours = np.full(len(texts), GAP)
    colours[~missing] = rank[place].clip(max=MAX_LEVELS)
    shown = [str(names[i]) for i in order[:MAX_LEVELS]]
    rest = len(names) - len(shown)
    return Colour(name, colours, names=(*shown, *([f"{rest:,} others"] if rest else [])))
