"""Statistics of one column from one streaming pass, in bounded memory; number formats of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

import numpy as np

from keyhole.core.layout import MOST_LEVELS
from keyhole.data import arrow_types, cast, levels
from keyhole.data.numerals import MOST_PLACES, OPPOSITE, SPACE, NumberFormat, parts, sizes

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


MOST_LEVEL_BYTES = 32 << 20  # of their texts
MOST_NUMBERS = 64  # distinct numbers counted before "many" is answer enough


@dataclass
class Profile:
    """Statistics of one column, fed block by block, and a sample of its values at the end.

    `levels` counts texts and booleans, and numbers while there are at most `most_numbers`; other
    values where the column is typed as levels or was told to be.
    """

    name: str
    arrow_type: Any = None
    rows: int = 0
    missing: int = 0
    least: float = np.inf
    most: float = -np.inf
    least_rows: int = 0  # that hold the least number
    most_rows: int = 0
    whole: bool = True  # every number met was an integer
    rising: bool = True  # every number met was above the one before
    not_numbers: int = 0  # texts that hold no number
    odd: str = ""  # one of them
    levels: Counter[Any] = field(default_factory=Counter)
    overflow: bool = False  # more levels were met than are counted
    heavy: bool = False  # because of their bytes
    level_bytes: int = 0
    sample: Any = None  # Arrow array of values from all over the table
    style: str | None = None  # how its texts write moments, if they all do
    ambiguous: tuple[str, str] | None = None  # two ways to read them as moments
    last: float = -np.inf
    infinite: int = 0  # the first row, from 1, with an infinite number
    dictionary: bool = False  # typed as levels, whatever the levels are
    most_numbers: int = MOST_NUMBERS  # distinct numbers that are counted
    decimal: str = "."  # the sign that texts are read with
    reading: Reading | None = None  # of texts: how they write numbers
    untyped: bool = False  # the texts of a CSV, which may be anything
    exact_ends: list[str] | None = None  # least and most exactly, where a float64 may round them

    @property
    def observed(self) -> int:
        """How many cells held a value."""
        return self.rows - self.missing

    @property
    def ends(self) -> tuple[int, int]:
        """How many rows hold the least and the most number."""
        return self.least_rows, self.most_rows

    @property
    def span(self) -> float:
        """The distance from the least to the most number, exact for whole ones."""
        import pyarrow.types as pt

        if self.exact_ends is not None and pt.is_integer(self.arrow_type):
            return int(self.exact_ends[1]) - int(self.exact_ends[0])
        return self.most - self.least

    @property
    def numeric(self) -> bool:
        """True for a column of numbers, not of codes that are written in digits."""
        coded = self.reading is not None and (
            self.reading.code
            or self.reading.units > 1
            or (self.reading.digits and not self.untyped)
        )
        return self.readable and not coded

    @property
    def readable(self) -> bool:
        """True where at least nine cells in ten with a value hold a number."""
        return self.observed > 0 and self.not_numbers <= 0.1 * self.observed

    @property
    def format(self) -> NumberFormat | None:
        """How the column's texts write numbers; None for a column of another type."""
        return self.reading.format if self.reading is not None and self.readable else None

    @property
    def plain(self) -> bool:
        """False for texts that write money, percent, thousands or another decimal sign."""
        return self.format is None or self.format.plain

    def add(self, values: Any) -> None:
        """Count a block (Arrow array) in."""
        import pyarrow.types as pt

        if pt.is_dictionary(values.type):
            self.dictionary, self.most_numbers = True, MOST_LEVELS
        values = cast.plain(values)
        if self.arrow_type is None or pt.is_null(self.arrow_type):
            self.arrow_type = values.type
        self.rows += len(values)
        if pt.is_boolean(values.type):
            self.missing += values.null_count
        else:
            self._measure(values)
        if not self.overflow and self._counts(values.type):
            self._count_levels(levels.count(values))
            text = cast.is_text(values.type) or pt.is_boolean(values.type)
            most = MOST_LEVELS if text else self.most_numbers
            if len(self.levels) > most:
                self.overflow = True
                self.levels = Counter(dict(self.levels.most_common(most)))

    def _counts(self, arrow_type: Any) -> bool:
        """True where values of the type are counted: always of some types, of most if wanted."""
        import pyarrow.types as pt

        if cast.is_text(arrow_type) or cast.is_numeric(arrow_type) or pt.is_boolean(arrow_type):
            return True
        wanted = self.most_numbers == MOST_LEVELS
        return wanted and pt.is_temporal(arrow_type) and not pt.is_interval(arrow_type)

    def _measure(self, values: Any) -> None:
        """Take in gaps, range and order of a block of numbers."""
        import pyarrow.types as pt

        numbers, bad = cast.floats(values, self.decimal)
        gaps = np.isnan(numbers)
        self.missing += int(gaps.sum()) - len(bad)
        if len(bad):
            self.not_numbers += len(bad)
            self.odd = cast.texts(values[int(bad[0]) :][:1])[0].as_py()
        endless = np.isinf(numbers)
        if endless.any() and not self.infinite:
            self.infinite = self.rows - len(numbers) + int(endless.argmax()) + 1
        numbers = numbers[~gaps & ~endless]
        if not len(numbers):
            return
        self._count_ends(numbers)
        self.whole = self.whole and bool((numbers == np.round(numbers)).all())
        self._extend_ends(values)
        if pt.is_integer(values.type):  # a float64 cannot tell neighbours of 17 digits apart
            numbers = values.drop_null().to_numpy()
        if self.rising:
            self.rising = bool(numbers[0] > self.last and (numbers[1:] > numbers[:-1]).all())
            self.last = numbers[-1].item()

    def _count_ends(self, numbers: np.ndarray) -> None:
        """The least and the most number, and how many rows hold each."""
        least, most = float(numbers.min()), float(numbers.max())
        if least <= self.least:
            previous = self.least_rows if least == self.least else 0
            self.least, self.least_rows = least, previous + int((numbers == least).sum())
        if most >= self.most:
            previous = self.most_rows if most == self.most else 0
            self.most, self.most_rows = most, previous + int((numbers == most).sum())

    def _extend_ends(self, values: Any) -> None:
        found = arrow_types.ends_of(values)
        if found is not None and self.exact_ends is not None:
            pairs = [[Decimal(end) for end in ends] for ends in (found, self.exact_ends)]
            found = [f"{min(p[0] for p in pairs):f}", f"{max(p[1] for p in pairs):f}"]
        self.exact_ends = found or self.exact_ends

    def _count_levels(self, counts: Counter[Any]) -> None:
        """Add levels, while their texts take no more memory than levels may."""
        texts = (key for key in counts if isinstance(key, str) and key not in self.levels)
        self.level_bytes += sum(map(len, texts))
        self.levels.update(counts)
        if self.level_bytes > MOST_LEVEL_BYTES:
            self.levels, self.overflow, self.heavy = Counter(), True, True

    def numbers(self) -> np.ndarray:
        """The sample's numbers, gaps and infinite ones left out."""
        numbers, _ = cast.floats(self.sample, self.decimal)
        return numbers[np.isfinite(numbers)]
