"""Numbers as people write them: decimal sign, thousands, money, percent; read and written again.

A column that holds texts keeps its `NumberFormat`, so a number means the same in every file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from keyhole.errors import SettingError

SPACE = "[ \u00a0\u202f\u2009]"
CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|AUD|CAD|NZD|BRL|MXN|ZAR|RUB|TRY|KRW"
UNIT = rf"(?:[A-Z]{{0,3}}\p{{Sc}}|[%‰]|{CODES}|kr\.?|zł|Kč|Ft|Fr\.)"
MINUS = "−"  # typographers' minus
MOST_PLACES = 6  # more digits than these are a computer's, not a person's
LEAST_CODES = 0.01  # share of leading zeros that makes digits a code
OPPOSITE = {".": ",", ",": "."}


@dataclass(frozen=True)
class NumberFormat:
    """How a column writes numbers; an empty `decimal` means that training never showed it.

    `places` are the fewest and the most digits after the decimal sign, `width` the digits of a
    code that is padded with zeros.
    """

    decimal: str = ""
    thousands: str = ""
    prefix: str = ""
    suffix: str = ""
    brackets: bool = False  # (5) is -5
    places: tuple[int, int] = (0, MOST_PLACES + 1)
    width: int = 0

    @classmethod
    def of(cls, recipe: dict[str, Any]) -> Self:
        """The format that a manifest describes. Raises: SettingError."""
        recipe = {name: value for name, value in recipe.items() if name != "of"}
        texts = [recipe.get(name, "") for name in ("decimal", "thousands", "prefix", "suffix")]
        places, width = recipe.get("places", (0, 0)), recipe.get("width", 0)
        valid = (
            set(recipe) <= set(cls.__dataclass_fields__)
            and all(isinstance(text, str) and len(text) <= 8 for text in texts)
            and texts[0] in {"", ".", ","}
            and len(places) == 2
            and all(type(n) is int and 0 <= n <= 20 for n in (*places, width))
        )
        if not valid:
            raise SettingError(f"written={recipe!r:.60} is no way to write numbers")
        return cls(**{**recipe, "places": tuple(places)})

    def recipe(self) -> dict[str, Any]:
        """The JSON from which `of` makes this again."""
        return {**asdict(self), "places": list(self.places)}

    @property
    def plain(self) -> bool:
        """True where every program reads such numbers: no thousands, no unit, a point."""
        signs = (self.thousands, self.prefix, self.suffix, self.brackets, self.width)
        return self.decimal != "," and not any(signs)

    @property
    def unit(self) -> str:
        """The currency or percent sign."""
        return (self.prefix + self.suffix).strip(f"{SPACE[1:-1]}")

    def write(self, numbers: np.ndarray) -> list[str | None]:
        """Numbers as this column writes them; None for NaN."""
        return [None if n != n else self._text(float(n)) for n in numbers.tolist()]  # noqa: PLR0124

    def _text(self, number: float) -> str:
        least, most = self.places
        if most > MOST_PLACES or abs(number) >= 1e15:
            short = f"{abs(number):.6g}"
            size = short if self.plain or "e" not in short else f"{abs(number):.0f}"
        else:
            size = f"{abs(number):.{most}f}"
            if most > least and "." in size:
                size = size.rstrip("0")
                whole, _, part = size.partition(".")
                size = whole + (f".{part:0<{least}}" if part or least else "")
        negative = number < 0 and size.strip("0.") != ""
        if "e" not in size:
            whole, point, part = size.partition(".")
            whole = f"{int(whole):,}".replace(",", self.thousands).zfill(self.width)
            size = whole + point.replace(".", self.decimal or ".") + part
        size = self.prefix + size + self.suffix
        if negative and self.brackets:
            return f"({size})"
        return f"-{size}" if negative else size


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


def pattern(decimal: str) -> str:
    """The regular expression of a number with this decimal sign, its parts as named groups."""
    point, other = (r"\.", ",") if decimal == "." else (",", r"\.")
    groups = "|".join(
        rf"[1-9]\d{{0,2}}(?:{sep}\d{{3}})+" for sep in (other, "['’]", SPACE)
    )  # fmt: skip
    body = rf"(?:(?:{groups}|\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"
    signs = rf"[+\-{MINUS}]?"
    return (
        rf"^(?P<open>\(?)(?P<sign>{signs}){SPACE}?(?P<prefix>(?:{UNIT}{SPACE}?)?)"
        rf"(?P<inner>{signs})(?P<body>{body})(?P<suffix>(?:{SPACE}?{UNIT})?)(?P<close>\)?)$"
    )


def parts(values: Any, decimal: str) -> Any:
    """The parts of each text that is a number with this decimal sign, null for the others."""
    import pyarrow.compute as pc

    struct = pc.extract_regex(values, pattern=pattern(decimal))  # pyright: ignore
    opened, closed, sign, inner, before, after = (
        pc.binary_length(struct.field(name))  # pyright: ignore
        for name in ("open", "close", "sign", "inner", "prefix", "suffix")
    )
    one_unit = pc.equal(pc.multiply(before, after), 0)  # pyright: ignore
    signs = pc.add(pc.add(opened, sign), inner)  # pyright: ignore
    one_sign = pc.and_(pc.equal(opened, closed), pc.less_equal(signs, 3))  # pyright: ignore
    both = pc.and_(pc.greater(sign, 0), pc.greater(pc.add(inner, opened), 0))  # pyright: ignore
    legal = pc.and_(pc.and_(one_unit, one_sign), pc.invert(both))  # pyright: ignore
    return pc.if_else(pc.and_(struct.is_valid(), legal), struct, None)  # pyright: ignore


def numbers(values: Any, decimal: str, unit: str | None = None) -> np.ndarray:
    """Texts as float64, NaN for what is no number with this decimal sign (and unit, if any)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    struct = parts(values, decimal)
    body = struct.field("body")
    drop = r"[,'’ \x{a0}\x{202f}\x{2009}]" if decimal == "." else r"[.'’ \x{a0}\x{202f}\x{2009}]"
    body = pc.replace_substring_regex(body, drop, "")  # pyright: ignore
    body = pc.replace_substring(body, ",", ".")  # pyright: ignore
    size = body.cast(pa.float64())
    sign = pc.binary_join_element_wise(  # pyright: ignore
        struct.field("open"), struct.field("sign"), struct.field("inner"), ""
    )
    negative = pc.match_substring_regex(sign, rf"[(\-{MINUS}]")  # pyright: ignore
    read = pc.if_else(negative, pc.negate(size), size)  # pyright: ignore
    if unit is not None:
        joined = pc.binary_join_element_wise(struct.field("prefix"), struct.field("suffix"), "")  # pyright: ignore
        joined = pc.utf8_trim_whitespace(joined)  # pyright: ignore
        fits = pc.or_(pc.equal(joined, ""), pc.equal(joined, unit))  # pyright: ignore
        read = pc.if_else(fits, read, None)  # pyright: ignore
    read = pc.if_else(struct.is_valid(), read, None)  # pyright: ignore
    return read.to_numpy(zero_copy_only=False).astype(np.float64)


def one(text: str, decimal: str) -> float:
    """A text as a number, NaN where it is none with this decimal sign."""
    import pyarrow as pa

    return float(numbers(pa.array([text]), decimal)[0])


def study(texts: Any, prefer: str = "", told: str = "") -> Reading:
    """What a sample of texts (Arrow strings without null) tells of the column's numbers.

    `prefer` is the decimal sign where the texts do not decide it, `told` where a user does.
    """
    if not len(texts):
        return Reading(NumberFormat())
    read = {sign: numbers(texts, sign) for sign in OPPOSITE}
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
    struct = parts(texts, decimal or ".").drop_null()
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
