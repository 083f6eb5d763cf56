"""Numbers as texts, in a format that is learned from a column and saved to read and write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from keyhole.data.lazy import pa, pc
from keyhole.errors import SettingError

SPACE = "[ \u00a0\u202f\u2009]"
CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|AUD|CAD|NZD|BRL|MXN|ZAR|RUB|TRY|KRW"
UNIT = rf"(?:[A-Z]{{0,3}}\p{{Sc}}|[%‰]|{CODES}|kr\.?|zł|Kč|Ft|Fr\.)"
MINUS = "−"  # typographers' minus
MAX_PLACES = 6  # decimals; more of them were written by a program, not a person
OPPOSITE = {".": ",", ",": "."}


@dataclass(frozen=True)
class NumberFormat:
    """How a column writes numbers; `decimal` is empty if training data never showed it.

    `places` are the fewest and the most digits after the decimal sign, `width` the digits of a
    code with leading zeros.
    """

    decimal: str = ""
    thousands: str = ""
    prefix: str = ""
    suffix: str = ""
    brackets: bool = False  # (5) is -5
    places: tuple[int, int] = (0, MAX_PLACES + 1)
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
            raise SettingError(f"written={recipe!r:.60} is not a valid number format")
        return cls(**{**recipe, "places": tuple(places)})

    def recipe(self) -> dict[str, Any]:
        """The JSON that `of` reads."""
        return {**asdict(self), "places": list(self.places)}

    @property
    def plain(self) -> bool:
        """True if every program reads such numbers: no thousands, no unit, a decimal point."""
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
        if most > MAX_PLACES or abs(number) >= 1e15:
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


def pattern(decimal: str) -> str:
    """The regular expression of a number with this decimal sign, its parts as named groups."""
    point, other = (r"\.", ",") if decimal == "." else (",", r"\.")
    groups = "|".join(rf"[1-9]\d{{0,2}}(?:{sep}\d{{3}})+" for sep in (other, "['’]", SPACE))
    body = rf"(?:(?:{groups}|\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"
    signs = rf"[+\-{MINUS}]?"
    return (
        rf"^(?P<open>\(?)(?P<sign>{signs}){SPACE}?(?P<prefix>(?:{UNIT}{SPACE}?)?)"
        rf"(?P<inner>{signs})(?P<body>{body})(?P<suffix>(?:{SPACE}?{UNIT})?)(?P<close>\)?)$"
    )


def parts(values: Any, decimal: str) -> Any:
    """The parts of each text that is a number with this decimal sign; null for other texts."""
    struct = pc.extract_regex(values, pattern=pattern(decimal))
    opened, closed, sign, inner, before, after = (
        pc.binary_length(struct.field(name))
        for name in ("open", "close", "sign", "inner", "prefix", "suffix")
    )
    one_unit = pc.equal(pc.multiply(before, after), 0)
    signs = pc.add(pc.add(opened, sign), inner)
    one_sign = pc.and_(pc.equal(opened, closed), pc.less_equal(signs, 3))
    both = pc.and_(pc.greater(sign, 0), pc.greater(pc.add(inner, opened), 0))
    legal = pc.and_(pc.and_(one_unit, one_sign), pc.invert(both))
    return pc.if_else(pc.and_(struct.is_valid(), legal), struct, None)


def numbers(values: Any, decimal: str, unit: str | None = None) -> np.ndarray:
    """Texts as float64; NaN if a text is not a number with this decimal sign (and unit)."""
    return sizes(parts(values, decimal), decimal, unit)


def sizes(struct: Any, decimal: str, unit: str | None = None) -> np.ndarray:
    """The parts of texts as float64, NaN for null."""
    thousands = rf"[{OPPOSITE[decimal]}'’ \x{{a0}}\x{{202f}}\x{{2009}}]"
    body = pc.replace_substring_regex(struct.field("body"), thousands, "")
    size = pc.replace_substring(body, ",", ".").cast(pa.float64())
    sign = pc.binary_join_element_wise(
        struct.field("open"), struct.field("sign"), struct.field("inner"), ""
    )
    negative = pc.match_substring_regex(sign, rf"[(\-{MINUS}]")
    read = pc.if_else(negative, pc.negate(size), size)
    if unit is not None:
        joined = pc.binary_join_element_wise(struct.field("prefix"), struct.field("suffix"), "")
        joined = pc.utf8_trim_whitespace(joined)
        fits = pc.or_(pc.equal(joined, ""), pc.equal(joined, unit))
        read = pc.if_else(fits, read, None)
    read = pc.if_else(struct.is_valid(), read, None)
    return read.to_numpy(zero_copy_only=False).astype(np.float64)


def one(text: str, decimal: str) -> float:
    """A text as a number; NaN if it is not a number with this decimal sign."""
    return float(numbers(pa.array([text]), decimal)[0])


CODE_SHARE = 0.01  # digits are a code if at least this share of texts has leading zeros


@dataclass(frozen=True)
class Reading:
    """How a sample of texts writes numbers, and how sure that is.

    `share` of the texts are numbers. `sure`: the texts decide the decimal sign. `example` can be
    read with either sign. `code`: the digits are a code. `digits`: all texts are digits alone.
    """

    format: NumberFormat
    share: float = 0.0
    sure: bool = False
    example: str = ""
    units: int = 0
    code: bool = False
    digits: bool = False


def study(texts: Any, prefer: str = "", decimal: str = "") -> Reading:
    """How texts without null write numbers; `decimal` is the user's sign, `prefer` the default."""
    return study_columns([texts], [decimal], prefer)[0]


def study_columns(
    columns: Sequence[Any], decimals: Sequence[str], prefer: str = ""
) -> list[Reading]:
    """`study` of many columns at once: compiling a pattern takes longer than matching 50 texts."""
    texts = pa.concat_arrays([pa.array([], pa.string()), *columns])
    structs = {sign: parts(texts, sign) for sign in OPPOSITE}
    floats = {sign: sizes(struct, sign) for sign, struct in structs.items()}
    readings, start = [], 0
    for column, decimal in zip(columns, decimals, strict=True):
        rows = slice(start, start + len(column))
        start += len(column)
        numbers = {sign: values[rows] for sign, values in floats.items()}
        column_parts = {sign: struct[rows] for sign, struct in structs.items()}
        readings.append(_reading(column, numbers, column_parts, decimal, prefer))
    return readings


def _reading(
    texts: Any, numbers: dict[str, np.ndarray], structs: dict[str, Any], decimal: str, prefer: str
) -> Reading:
    """The reading of texts, from their numbers and parts by decimal sign."""
    counts = {sign: int(np.isfinite(numbers[sign]).sum()) for sign in OPPOSITE}
    if not any(counts.values()):
        return Reading(NumberFormat())
    both = np.isfinite(numbers["."] + numbers[","])
    differ = np.flatnonzero((numbers["."] != numbers[","]) & both)
    sure = counts["."] != counts[","] or bool(decimal)
    if not decimal and sure:
        decimal = max(counts, key=lambda sign: counts[sign])
    elif not decimal:
        decimal = prefer or (_by_size(texts, numbers, differ) if len(differ) else "")
    struct = structs[decimal or "."].drop_null()
    code, digits, width = _digits(texts)
    affixes = zip(struct.field("prefix").to_pylist(), struct.field("suffix").to_pylist())
    return Reading(
        _format(struct, decimal, width if code else 0),
        share=counts[decimal or "."] / len(texts),
        sure=sure,
        example=texts[int(differ[0])].as_py() if len(differ) and not sure else "",
        units=len({(prefix + suffix).strip(SPACE[1:-1]) for prefix, suffix in affixes} - {""}),
        code=code,
        digits=digits,
    )


def _by_size(texts: Any, numbers: dict[str, np.ndarray], differ: np.ndarray) -> str:
    """The decimal sign of texts in which three digits follow every sign.

    If all numbers without a sign are whole and below 1,000, the sign divides thousands.
    """
    signs = {sign for i in differ[:1_000] for sign in OPPOSITE if sign in texts[int(i)].as_py()}
    whole = np.delete(numbers["."], differ)
    whole = np.abs(whole[np.isfinite(whole)])
    small = len(whole) and whole.max() < 1_000 and (whole == np.round(whole)).all()
    return OPPOSITE[signs.pop()] if len(signs) == 1 and small else "."


def _digits(texts: Any) -> tuple[bool, bool, int]:
    """Whether digits are a code, whether all texts are digits alone, and the width of codes."""
    digits = texts.filter(pc.match_substring_regex(texts, r"^\d+$"))
    if not len(digits):
        return False, False, 0
    widths = pc.binary_length(digits).to_numpy(zero_copy_only=False)
    zeros = pc.sum(pc.match_substring_regex(digits, r"^0\d")).as_py()
    even = widths.min() == widths.max()
    mostly = len(digits) >= 0.5 * len(texts)
    code = mostly and zeros > 0 and (even or zeros >= CODE_SHARE * len(digits))
    return bool(code), len(digits) == len(texts), int(widths.max()) if even else 0


def _format(struct: Any, decimal: str, width: int) -> NumberFormat:
    point = r"\." if decimal != "," else ","
    body = struct.field("body")
    with_thousands = pc.extract_regex(body, r"^\d{1,3}(?P<sep>[^\d])\d{3}(?:[^\d]|$)")
    seps = with_thousands.field("sep").filter(with_thousands.is_valid()).to_pylist()
    seps = [sep for sep in seps if sep != (decimal or ".")]
    places = pc.extract_regex(body, rf"^[^eE]*?(?:{point}(?P<part>\d*))?$")
    lengths = pc.binary_length(places.field("part").filter(places.is_valid()))
    lengths = lengths.to_numpy(zero_copy_only=False)
    exponents = len(lengths) < len(struct)
    most = MAX_PLACES + 1 if exponents or not len(lengths) else int(min(lengths.max(), 20))
    return NumberFormat(
        decimal=decimal,
        thousands=_most_frequent(seps),
        prefix=_most_frequent(struct.field("prefix").to_pylist()),
        suffix=_most_frequent(struct.field("suffix").to_pylist()),
        brackets="(" in struct.field("open").to_pylist(),
        places=(int(lengths.min()) if len(lengths) else 0, most),
        width=width,
    )


def _most_frequent(texts: list[str]) -> str:
    return Counter(texts).most_common(1)[0][0] if texts else ""
