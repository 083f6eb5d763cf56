"""Dates and times as texts: the format is learned from the data and used to write them.

A format has the signs of strptime; `%-d`, `%-m`, `%-H` and `%-I` are numbers without a leading
zero, `%3f` is three digits of a second, and the time zone to write follows a bar, as in
`%Y-%m-%dT%H:%M:%S%z|Z`. `epoch s`, `epoch ms`, `epoch us` and `epoch ns` count from 1970 in UTC.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np

from keyhole.data.lazy import pa, pc

ISO = "iso"  # Arrow's own reader, for texts of several precisions
EPOCHS = {"epoch s": 1.0, "epoch ms": 1e-3, "epoch us": 1e-6, "epoch ns": 1e-9}
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SIGNS = {
    "Y": r"(?P<Y>\d{4})", "y": r"(?P<y>\d{2})", "m": r"(?P<m>\d{2})", "d": r"(?P<d>\d{2})",
    "-m": r"(?P<m>\d{1,2})", "-d": r"(?P<d>\d{1,2})", "H": r"(?P<H>\d{2})", "I": r"(?P<I>\d{2})",
    "-H": r"(?P<H>\d{1,2})", "-I": r"(?P<I>\d{1,2})", "M": r"(?P<M>\d{2})",
    "S": r"(?P<S>\d{2})(?P<f>[.,]\d{1,9})?", "b": r"(?P<b>(?i:[a-z]{3}))\.?",
    "B": r"(?P<b>(?i:[a-z]{3,9}))", "p": r"(?P<p>(?i:[ap]\.?m\.?))",
    "a": r"(?i:[a-z]{3})", "A": r"(?i:[a-z]{6,9})",
    "z": r"(?P<z>Z|UTC|GMT|[+\-]\d{2}:?\d{2}|[+\-]\d{2})",
}  # fmt: skip
SIGN = re.compile(r"%(-?[A-Za-z]|[1-9]f)")
DAY_FIRST = ("%-d{0}%-m{0}%Y", "%-d{0}%-m{0}%y")
MONTH_FIRST = ("%-m{0}%-d{0}%Y", "%-m{0}%-d{0}%y")
DATES = (
    "%Y-%-m-%-d", "%Y/%-m/%-d", "%Y.%-m.%-d", "%Y%m%d",
    *(form.format(mark) for mark in "-/." for form in (*DAY_FIRST, *MONTH_FIRST)),
    "%-d-%b-%Y", "%-d %b %Y", "%-d/%b/%Y", "%-d-%b-%y", "%-d. %b %Y", "%b %-d, %Y", "%b %-d %Y",
    "%-d %B %Y", "%-d. %B %Y", "%B %-d, %Y", "%B %-d %Y", "%Y-%b-%-d",
    "%a, %-d %b %Y", "%a %-d %b %Y", "%a %b %-d %Y", "%A, %-d %B %Y", "%A, %B %-d, %Y",
)  # fmt: skip
TIMES = ("%-H:%M:%S", "%-H:%M", "%-I:%M:%S %p", "%-I:%M %p", "%-I:%M:%S%p", "%-I:%M%p")
AFTER_DATES = tuple(
    between + t + z for between in (" ", "T", ", ", ":") for t in TIMES for z in ("", "%z", " %z")
)
OTHERS = (
    "%a %b %-d %H:%M:%S %Y", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%S%z", "%Y%m%d %H:%M:%S",
    "%Y%m%d%H%M%S", "%Y%m%d%H%M",
)  # fmt: skip
MIN_DATES = 20  # distinct ones, for digits to be dates


def check(style: str) -> bool:
    """True for a valid format."""
    if style == ISO or style in EPOCHS:
        return True
    format_, _, zone = style.partition("|")
    signs = SIGN.findall(format_)
    known = all(sign in SIGNS or sign.endswith("f") for sign in signs)
    names = [sign.removeprefix("-") for sign in signs]
    parts = {"b" if name == "B" else "Y" if name == "y" else name for name in names}
    month = ("m" in parts) != ("b" in parts)
    clock = ("I" in parts) == ("p" in parts) and not {"H", "I"} <= parts
    return (
        len(style) <= 64
        and "%" not in SIGN.sub("", format_)
        and known
        and len(names) == len(set(names)) == len(parts)
        and {"Y", "d"} <= parts
        and month
        and clock
        and (not zone or ("z" in parts and re.fullmatch(SIGNS["z"], zone) is not None))
    )


def read(texts: Any, style: str) -> np.ndarray:
    """Seconds since 1970 in UTC of Arrow strings; NaN for texts of another format."""
    if style == ISO:
        return _read_iso(texts)
    struct = pc.extract_regex(texts, pattern=_pattern(style))
    valid = struct.is_valid().to_numpy(zero_copy_only=False)
    columns = dict(zip([f.name for f in struct.type], struct.flatten(), strict=True))

    def number(name: str, default: int) -> np.ndarray:
        if name not in columns:
            return np.full(len(texts), default)
        return pc.fill_null(columns[name].cast("int64"), default).to_numpy(zero_copy_only=False)

    year, month, day = number("Y", 1970), number("m", 1), number("d", 1)
    if "y" in columns:
        year = number("y", 70)
        year = year + np.where(year < 69, 2000, 1900)  # POSIX
    if "b" in columns:
        names = {m[:n].lower(): i + 1 for i, m in enumerate(MONTHS) for n in (3, len(m))}
        month = np.array([names.get((m or "").lower(), 0) for m in columns["b"].to_pylist()])
    hour, minute, second = number("H", 0), number("M", 0), number("S", 0)
    if "p" in columns:
        hour = number("I", 12)
        later = pc.fill_null(pc.match_substring_regex(columns["p"], "^[pP]"), False)
        valid &= (hour >= 1) & (hour <= 12)
        hour = hour % 12 + 12 * later.to_numpy(zero_copy_only=False)
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days = months.astype("datetime64[D]") + (day - 1)
    valid &= (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months) & (day >= 1)
    valid &= (hour < 24) & (minute < 60) & (second <= 60)
    seconds = days.astype(np.int64) * 86_400.0 + hour * 3_600 + minute * 60 + second
    if "f" in columns:
        parts = columns["f"].to_pylist()
        seconds += np.array([float("0." + part[1:]) if part else 0.0 for part in parts])
    if "z" in columns:
        seconds -= np.array([_zone_seconds(zone or "Z") for zone in columns["z"].to_pylist()])
    return np.where(valid, seconds, np.nan)


def write(seconds: np.ndarray, style: str) -> list[str | None]:
    """Seconds since 1970 in UTC as texts of this format; None for NaN."""
    format_, _, zone = style.partition("|")
    offset = _zone_seconds(zone) if zone else 0
    signs = SIGN.split(format_)  # literal, sign, literal, sign, ..., literal
    digits = next((int(sign[0]) for sign in signs[1::2] if sign.endswith("f")), 0)
    texts: list[str | None] = []
    for value in seconds.tolist():
        if value != value:  # noqa: PLR0124
            texts.append(None)
            continue
        micros = round(value * 1e6) if digits else 1_000_000 * round(value)
        moment = np.datetime64(micros + 1_000_000 * offset, "us").item()
        fields = _fields(moment, digits, zone)
        texts.append("".join(fields[p] if i % 2 else p for i, p in enumerate(signs)))
    return texts


def styles(sample: Any) -> list[str]:
    """The formats of all texts, two if unclear; rows in order of time decide between two."""
    if not len(sample):
        return []
    times = {style: read(sample, style) for style in _likely(sample[0].as_py())}
    times = {style: seconds for style, seconds in times.items() if not np.isnan(seconds).any()}
    if len(times) > 1:
        rising = [s for s, sec in times.items() if len(sec) > 2 and (np.diff(sec) >= 0).all()]
        times = {style: times[style] for style in rising} if len(rising) == 1 else times
        if len({seconds.tobytes() for seconds in times.values()}) == 1:
            times = dict(list(times.items())[:1])
    if not times and not np.isnan(_read_iso(sample)).any():
        return [ISO]
    return [_exact(style, sample) for style in times][:2]


def _likely(text: str) -> list[str]:
    """The formats that a text may have: dates, then dates with times, then others."""
    if not any(sign.isdigit() for sign in text):
        return []
    starts = {date: match for date in DATES if (match := _start(date).match(text))}
    ends = {date: text[match.end() :] for date, match in starts.items()}
    dates = [date for date, end in ends.items() if not end]
    timed = [d + t for d, end in ends.items() for t in AFTER_DATES if _start(t).fullmatch(end)]
    return [*dates, *timed, *(style for style in OTHERS if _start(style).fullmatch(text))]


@cache
def _start(format_: str) -> re.Pattern[str]:
    return re.compile(_pattern(format_).removesuffix("$"))


def digits_style(sample: Any) -> str | None:
    """The format of digits that are all dates, such as 20201116; None for few or other digits."""
    digits = pc.match_substring_regex(sample, r"^(19|20)\d{6}(\d{4}(\d\d)?)?$")
    if not len(sample) or not pc.all(digits).as_py() or len(sample.unique()) < MIN_DATES:
        return None
    lengths = pc.binary_length(sample).to_numpy(zero_copy_only=False)
    style = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}[int(lengths[0])]
    fits = (lengths == lengths[0]).all() and not np.isnan(read(sample, style)).any()
    return style if fits else None


def epoch_style(numbers: np.ndarray) -> str | None:
    """The unit of numbers that count from 1970, by their size; None for other sizes."""
    size = float(np.median(numbers)) if len(numbers) else 0.0
    return next((s for s, unit in EPOCHS.items() if 1e8 <= size * unit < 5e9), None)  # 1973-2128


def _read_iso(texts: Any) -> np.ndarray:
    """Seconds since 1970 of ISO 8601 texts; NaN for others, which are searched by halves."""
    if not len(texts):
        return np.empty(0)
    for kind in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            micros = texts.cast(kind).cast(pa.int64())
            return pc.divide(micros.cast("double", safe=False), 1e6).to_numpy(False)
        except pa.ArrowInvalid:
            continue
    if len(texts) == 1:
        return np.full(1, np.nan)
    half = len(texts) // 2
    return np.concatenate([_read_iso(texts.slice(0, half)), _read_iso(texts.slice(half))])


def _pattern(style: str) -> str:
    """The regular expression of a format, its parts as named groups."""
    parts = SIGN.split(re.sub(r"%S[.,]%[1-9]f", "%S", style.partition("|")[0]))
    return "^" + "".join(SIGNS[p] if i % 2 else re.escape(p) for i, p in enumerate(parts)) + "$"


def _exact(style: str, sample: Any) -> str:
    """The format with the leading zeros, digits of a second and time zone of the sample."""
    struct = pc.extract_regex(sample, pattern=_pattern(style))
    columns = dict(zip([f.name for f in struct.type], struct.flatten(), strict=True))
    for name in "dmHI":
        if f"%-{name}" in style and pc.min(pc.binary_length(columns[name])).as_py() == 2:
            style = style.replace(f"%-{name}", f"%{name}")
    if "f" in columns:
        longest = pc.max(pc.binary_length(columns["f"])).as_py()
        if longest:
            mark = max(columns["f"].to_pylist(), key=lambda part: len(part or ""))[0]
            style = style.replace("%S", f"%S{mark}%{longest - 1}f")
    if "z" in columns:
        style += "|" + Counter(columns["z"].to_pylist()).most_common(1)[0][0]
    return style


def _fields(moment: Any, digits: int, zone: str) -> dict[str, str]:
    hour = moment.hour % 12 or 12
    return {
        "Y": f"{moment.year:04}", "y": f"{moment.year % 100:02}", "m": f"{moment.month:02}",
        "-m": str(moment.month), "d": f"{moment.day:02}", "-d": str(moment.day),
        "H": f"{moment.hour:02}", "-H": str(moment.hour), "I": f"{hour:02}", "-I": str(hour),
        "M": f"{moment.minute:02}", "S": f"{moment.second:02}",
        "b": MONTHS[moment.month - 1][:3], "B": MONTHS[moment.month - 1],
        "a": DAYS[moment.weekday()][:3], "A": DAYS[moment.weekday()],
        "p": "PM" if moment.hour >= 12 else "AM", "z": zone or "+00:00",
        f"{digits}f": f"{moment.microsecond:06}".ljust(9, "0")[:digits],
    }  # fmt: skip


@cache
def _zone_seconds(zone: str) -> int:
    """Seconds ahead of UTC."""
    if zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3_600 + int(digits[2:]) * 60)
