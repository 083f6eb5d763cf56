"""Numbers as texts: decimal sign, thousands, money, percent; read, and written the same way.

A column of texts stores its `NumberFormat`, so a text means the same number in every file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from keyhole.errors import SettingError

SPACE = "[ \u00a0\u202f\u2009]"
CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|AUD|CAD|NZD|BRL|MXN|ZAR|RUB|TRY|KRW"
UNIT = rf"(?:[A-Z]{{0,3}}\p{{Sc}}|[%‰]|{CODES}|kr\.?|zł|Kč|Ft|Fr\.)"
MINUS = "−"  # typographers' minus
MOST_PLACES = 6  # more digits than these are a computer's, not a person's
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
    return sizes(parts(values, decimal), decimal, unit)


def sizes(struct: Any, decimal: str, unit: str | None = None) -> np.ndarray:
    """The parts of texts as float64, NaN for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

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
