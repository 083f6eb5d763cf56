"""Raw identifiers of users and items, and their positions: texts and whole numbers alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt
from keyhole.errors import DataError

WHOLE = r"^(0|-?[1-9][0-9]{0,18})$"  # a text that an integer gives back as it was
LARGEST_FLOAT = float(1 << 53)  # beyond, floats skip whole numbers
UNKNOWN = -1  # the position of an identifier that is not in a list


@dataclass(frozen=True)
class Identifiers:
    """Different identifiers in a fixed order: numbers by size, texts by their letters.

    They are compared as texts, so 17, 17.0 and "17" are one. `numeric`: they are written as whole
    numbers, and given back as int64.
    """

    texts: tuple[str, ...]
    numeric: bool

    @classmethod
    def of(cls, texts: Sequence[str], *, numeric: bool) -> Identifiers:
        """Those of different texts, in order; `numeric` counts where all are whole numbers."""
        array = pa.array(list(texts), pa.string())
        numbers = whole_numbers(array) if numeric else None
        if numbers is None:
            return cls(tuple(sorted(texts)), False)
        order = np.argsort(numbers.to_numpy(), kind="stable")
        return cls(tuple(array.take(order).to_pylist()), True)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def as_texts(self) -> Any:
        """All identifiers as an Arrow array of texts."""
        return pa.array(self.texts, pa.string())

    @cached_property
    def array(self) -> Any:
        """All identifiers as an Arrow array of int64 or of texts."""
        return self.as_texts.cast(pa.int64()) if self.numeric else self.as_texts

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.texts)}

    def positions(self, texts: Any) -> Int64[np.ndarray, " row"]:
        """The position of each text of an Arrow array, `UNKNOWN` where it is not one of these."""
        encoded = texts.dictionary_encode()
        own = [self._positions.get(text, UNKNOWN) for text in encoded.dictionary.to_pylist()]
        places = encoded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False)
        return np.array([*own, UNKNOWN], np.int64)[places]

    def like(self, texts: Any) -> Any:
        """Texts as int64 where these identifiers are and all texts can be; else as they are."""
        numbers = whole_numbers(texts) if self.numeric else None
        return texts if numbers is None else numbers

    def take(self, positions: Int64[np.ndarray, " row"]) -> Any:
        """The identifiers at these positions as an Arrow array."""
        return self.array.take(pa.array(positions))


def whole_numbers(texts: Any) -> Any:
    """An Arrow array of texts as int64; None if one of them would not come back as it was."""
    if not pc.all(pc.match_substring_regex(texts, WHOLE), min_count=0).as_py():
        return None
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:  # beyond an int64
        return None


def identifier_texts(values: Any, column: str) -> tuple[Any, bool]:
    """Identifiers as texts, null for a gap, and whether they are numbers.

    A float such as 17.0 is the number 17: pandas makes floats of whole numbers beside gaps.
    Raises: DataError for floats so large that they have lost digits.
    """
    values = cast.plain(values)
    if not pt.is_floating(values.type):
        texts = cast.texts(values)
        return pc.if_else(pc.equal(texts, ""), None, texts), pt.is_integer(values.type)
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = np.isfinite(numbers)
    whole = known & (numbers == np.floor(numbers))
    if (np.abs(numbers[known]) >= LARGEST_FLOAT).any():
        raise DataError(
            f"column {column!r} holds identifiers as floats that have lost digits, such as "
            f"{np.abs(numbers[known]).max():.0f}: read the column as texts or whole numbers"
        )
    if not (whole == known).all():
        return cast.texts(pa.array(numbers, mask=~known)), False
    return cast.texts(pa.array(np.where(known, numbers, 0).astype(np.int64), mask=~known)), True


def texts_of(identifiers: Sequence[Any]) -> Any:
    """A list of raw identifiers as an Arrow array of texts; null for a gap."""
    texts = [None if _is_gap(value) else _text_of(value) for value in identifiers]
    return pa.array(texts, pa.string())


def _text_of(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _is_gap(value: Any) -> bool:
    return value is None or value == "" or type(value).__name__ in {"NAType", "NaTType"} or (
        isinstance(value, float | np.floating) and not np.isfinite(value)
    )  # fmt: skip
