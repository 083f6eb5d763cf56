"""What a sample of texts tells of a column's numbers: decimal sign, format, code or number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keyhole.columns.numerals import (
    MOST_PLACES,
    OPPOSITE,
    SPACE,
    NumberFormat,
    parts,
    sizes,
)

LEAST_CODES = 0.01  # share of leading zeros that makes digits a code


@dataclass(frozen=True)
class Reading:
    """A sample of texts as numbers: the format, and what speaks for its decimal sign.

    `share` is that of the texts that read as numbers, `sure` tells that the texts decide the
    decimal sign, and `example` is a text that reads both ways. `code` is true for digits that are
    a code, `digits` where all numbers are digits alone.
    """

    format: NumberFormat
    share: float = 0.0
    sure: bool = False
    example: str = ""
    units: int = 0
    code: bool = False
    digits: bool = False


@dataclass(frozen=True)
class Parsed:
    """Texts (Arrow strings without null) as numbers and as parts of numbers, by decimal sign."""

    texts: Any
    numbers: dict[str, np.ndarray]
    parts: dict[str, Any]

    @classmethod
    def of(cls, columns: Sequence[Any]) -> list[Self]:
        """The texts of many columns in one go: to compile a pattern takes longer than 50 texts."""
        import pyarrow as pa

        texts = pa.concat_arrays([pa.array([], pa.string()), *columns])
        split = {sign: parts(texts, sign) for sign in OPPOSITE}
        read = {sign: sizes(struct, sign) for sign, struct in split.items()}
        ends = np.cumsum([len(column) for column in columns]).tolist()
        spans = [slice(end - len(column), end) for end, column in zip(ends, columns, strict=True)]
        return [
            cls(
                column,
                {s: x[span] for s, x in read.items()},
                {s: x[span] for s, x in split.items()},
            )
            for span, column in zip(spans, columns, strict=True)
        ]


def study(texts: Any, prefer: str = "", told: str = "") -> Reading:
    """What a sample of texts (Arrow strings without null) tells of the column's numbers.

    `prefer` is the decimal sign where the texts do not decide it, `told` where a user does.
    """
    return reading_of(Parsed.of([texts])[0], prefer, told)


def reading_of(parsed: Parsed, prefer: str = "", told: str = "") -> Reading:
    """What parsed texts tell of the column's numbers, see `study`."""
    texts, read = parsed.texts, parsed.numbers
    counts = {sign: int(np.isfinite(read[sign]).sum()) for sign in OPPOSITE}
    if not any(counts.values()):
        return Reading(NumberFormat())
    differ = np.flatnonzero((read["."] != read[","]) & np.isfinite(read["."] + read[","]))
    sure = counts["."] != counts[","] or bool(told)
    if told:
        decimal = told
    elif sure:
        decimal = max(counts, key=lambda sign: counts[sign])
    elif len(differ):
        decimal = prefer or _by_size(texts, read, differ)
    else:
        decimal = prefer
    example = texts[int(differ[0])].as_py() if len(differ) and not sure else ""
    struct = parsed.parts[decimal or "."].drop_null()
    code, digits, width = _digits(texts)
    return Reading(
        _format(struct, decimal, width if code else 0),
        share=counts[decimal or "."] / len(texts),
        sure=sure,
        example=example,
        units=len(_units(struct)),
        code=code,
        digits=digits,
    )


def _by_size(texts: Any, read: dict[str, np.ndarray], differ: np.ndarray) -> str:
    """The decimal sign of a column where every sign has three digits behind it.

    Whole numbers below 1,000 without a sign, and none above, make the sign one of thousands.
    """
    signs = {sign for i in differ[:1_000] for sign in OPPOSITE if sign in texts[int(i)].as_py()}
    whole = np.delete(read["."], differ)
    whole = np.abs(whole[np.isfinite(whole)])
    small = len(whole) and whole.max() < 1_000 and (whole == np.round(whole)).all()
    if len(signs) == 1 and small:
        return OPPOSITE[signs.pop()]
    return "."


def _digits(texts: Any) -> tuple[bool, bool, int]:
    """Whether digits are a code, whether all cells are digits alone, and the width of codes."""
    import pyarrow.compute as pc

    digits = texts.filter(pc.match_substring_regex(texts, r"^\d+$"))  # pyright: ignore
    if not len(digits):
        return False, False, 0
    widths = pc.binary_length(digits).to_numpy(zero_copy_only=False)  # pyright: ignore
    zeros = pc.sum(pc.match_substring_regex(digits, r"^0\d")).as_py()  # pyright: ignore
    even = widths.min() == widths.max()
    mostly = len(digits) >= 0.5 * len(texts)
    code = mostly and zeros > 0 and (even or zeros >= LEAST_CODES * len(digits))
    return bool(code), len(digits) == len(texts), int(widths.max()) if even else 0


def _units(struct: Any) -> list[str]:
    joined = Counter(
        (a + b).strip(SPACE[1:-1])
        for a, b in zip(
            struct.field("prefix").to_pylist(), struct.field("suffix").to_pylist(), strict=True
        )
    )
    return [unit for unit, _ in joined.most_common() if unit]


def _format(struct: Any, decimal: str, width: int) -> NumberFormat:
    """The format that most of these numbers have."""
    import pyarrow.compute as pc

    point = r"\." if decimal != "," else ","
    body = struct.field("body")
    with_thousands = pc.extract_regex(body, r"^\d{1,3}(?P<sep>[^\d])\d{3}(?:[^\d]|$)")  # pyright: ignore
    seps = with_thousands.field("sep").filter(with_thousands.is_valid()).to_pylist()
    seps = [sep for sep in seps if sep != (decimal or ".")]
    places = pc.extract_regex(body, rf"^[^eE]*?(?:{point}(?P<part>\d*))?$")  # pyright: ignore
    lengths = pc.binary_length(places.field("part").filter(places.is_valid()))  # pyright: ignore
    lengths = lengths.to_numpy(zero_copy_only=False)
    exponents = len(lengths) < len(struct)
    most = MOST_PLACES + 1 if exponents or not len(lengths) else int(min(lengths.max(), 20))
    return NumberFormat(
        decimal=decimal,
        thousands=Counter(seps).most_common(1)[0][0] if seps else "",
        prefix=_commonest(struct.field("prefix").to_pylist()),
        suffix=_commonest(struct.field("suffix").to_pylist()),
        brackets="(" in struct.field("open").to_pylist(),
        places=(int(lengths.min()) if len(lengths) else 0, most),
        width=width,
    )


def _commonest(texts: list[str]) -> str:
    return Counter(texts).most_common(1)[0][0] if texts else ""
