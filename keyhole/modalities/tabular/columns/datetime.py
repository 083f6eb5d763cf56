"""Dates and times: a trend, and sine and cosine of the day, the week and the year."""

from typing import Any, Self

import numpy as np

from keyhole.core.layout import CLOCK, TREND, Slot
from keyhole.data import cast, dates, levels
from keyhole.data.lazy import pa
from keyhole.errors import SettingError
from keyhole.modalities import expected as words
from keyhole.modalities.expected import LEVEL, Expected, Prediction
from keyhole.modalities.profile import Profile
from keyhole.modalities.tabular.columns import base
from keyhole.modalities.tabular.columns.base import Column, Grid, point_mass_slot

MIN_POINT_MASS = 0.01  # share of rows that makes an outlying time a point mass
MIN_VALUES = 5  # distinct times; with fewer, none of them is outlying
APART = 3.0  # interquartile ranges of the distinct times: a wider gap sets times apart
FEW = 0.01  # share of distinct times that may be outlying
DAY_S = float(cast.DAY_S)
CYCLES_S = {"day": DAY_S, "week": 7 * DAY_S, "year": 365.2425 * DAY_S}
WEEK = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970 began on a Thursday
ORDERED, MIN_ORDERED = 0.98, 20  # share of steps in one direction; least distinct times


def ordinary_of(times: np.ndarray) -> tuple[np.ndarray, list[float] | None]:
    """Which times are not outlying, and the most frequent outlying time with its share.

    Outlying are few distinct times beyond a gap that is much wider than the interquartile range.
    """
    ordinary = ~np.isnan(times)
    values, counts = np.unique(times[ordinary], return_counts=True)
    if len(values) < MIN_VALUES:
        return ordinary, None
    quarter, most = len(values) // 4, max(2, int(FEW * len(values)))
    gaps, width = np.diff(values), values[-1 - quarter] - values[quarter]
    large = np.flatnonzero(gaps > APART * width)
    below, above = large[large < quarter], large[large >= len(gaps) - quarter]
    first = below[-1] + 1 if len(below) and below[-1] < most else 0
    last = above[0] if len(above) and len(gaps) - above[0] <= most else len(values) - 1
    ordinary &= (times >= values[first]) & (times <= values[last])
    outlying = np.r_[counts[:first], np.zeros(last + 1 - first), counts[last + 1 :]]
    share = float(outlying.max() / counts.sum())
    if share < MIN_POINT_MASS:
        return ordinary, None
    return ordinary, [float(values[outlying.argmax()]), min(share, 1 - 0.5 / float(counts.sum()))]


def is_ordered(times: np.ndarray) -> bool:
    """True if nearly all rows are in the order of their times, or in reverse order."""
    if len(np.unique(times)) < MIN_ORDERED:
        return False
    steps = np.diff(times)
    return bool(max((steps >= 0).mean(), (steps <= 0).mean()) >= ORDERED)


def cycle_text(cycle: str, first: float, last: float) -> str:
    """The part of a cycle between two angles: "08:10 to 19:40 of the day", "Mon to Fri"."""
    ends = [angle % (2 * np.pi) / (2 * np.pi) * CYCLES_S[cycle] for angle in (first, last)]
    if cycle == "week":
        return " to ".join(WEEK[int(end // DAY_S) % 7] for end in ends)
    stamps = [str(np.datetime64(int(end), "s")) for end in ends]
    if cycle == "day":
        return " to ".join(stamp[11:16] for stamp in stamps) + " of the day"
    return " to ".join(stamp[5:10] for stamp in stamps) + " (month-day)"


MAX_S = 9.2e18  # seconds in an int64
CALENDAR_S = (-62_135_596_800.0, 253_402_300_799.0)  # the years 1 to 9999
MAX_TURN = 0.8  # of a cycle, or of the range: a wider part is no expectation


class Datetime(Column):
    """A time in UTC; its features are a standardized trend, and sine and cosine of each cycle.

    A cycle has features if the data spans it twice and resolves it: dates without times have no
    day cycle. Range and scale are those of ordinary times, without a few outlying ones such as
    9999-12-31. With a `point_mass` (the most frequent outlying time and its share) there is a
    Bernoulli feature, and the other features are observed only in other rows. `trend_s` are center
    and scale, `parts` the trend and the cycles. If training rows are in the order of their times,
    the trend is called clock, and later rows are expected: a time beyond the range by at most its
    length has the trend of that end.
    """

    kind = "datetime"
    effect_unit = "s"

    def __init__(
        self,
        name: str,
        *,
        trend_s: list[float],
        range_s: list[float],
        step_s: float,
        parts: list[str],
        style: str,
        type: str,
        point_mass: list[float] | None = None,
    ) -> None:
        self.name, self.trend_s, self.range_s, self.step_s = name, trend_s, range_s, step_s
        self.parts, self.style, self.type, self.point_mass = parts, style, type, point_mass

    @property
    def clock(self) -> bool:
        """True if training rows are in the order of their times."""
        return self.parts[0] == CLOCK

    @property
    def cycles(self) -> list[str]:
        """The cycles that have features."""
        return self.parts[1:]

    def check(self) -> None:
        """Raises: SettingError for an invalid format, on which Arrow would crash, or part."""
        if not dates.check(self.style):
            raise SettingError(f"style={self.style!r:.40} is an unsupported datetime format")
        once = len(set(self.parts)) == len(self.parts) and set(self.cycles) <= set(CYCLES_S)
        if not once or self.parts[:1] not in ([TREND], [CLOCK]):
            raise SettingError(
                f"parts={self.parts!r:.40}: expected {TREND} or {CLOCK}, then each cycle at "
                "most once"
            )
        pairs = [self.trend_s, self.range_s, self.point_mass or [0.0, 0.5]]
        if any(len(pair) != 2 for pair in pairs) or not (self.trend_s[1] > 0 < pairs[2][1] < 1):
            raise SettingError(f"trend_s, range_s, point_mass={pairs!r:.60} are not valid")

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Trend, step and cycles from the sample."""
        style = profile.style or cast.ISO
        times, _ = cast.seconds(profile.sample, style)
        ordinary, point_mass = ordinary_of(times)
        moments = times[ordinary] if ordinary.any() else np.zeros(1)
        step = next((s for s in (DAY_S, 60.0, 1.0) if not np.any(moments % s)), 1e-6)
        span = float(np.ptp(moments))
        cycles = [name for name, s in CYCLES_S.items() if span >= 2 * s and step < s]
        kind = cast.name_of(profile.arrow_type)
        range_s = [float(moments.min()), float(moments.max())]
        if cast.is_datetime(kind):
            ends = cast.ends_of(profile.sample.filter(ordinary))
            range_s = cast.narrowed(range_s, ends, lambda s: cast.of_seconds(s, kind))
        return cls(
            profile.name,
            trend_s=[float(moments.mean()), float(moments.std()) or DAY_S],
            range_s=range_s,
            step_s=step,
            parts=[CLOCK if is_ordered(moments) else TREND, *cycles],
            style=style,
            type=kind,
            point_mass=point_mass,
        )

    @property
    def remark(self) -> str:
        """A note if rows are in the order of their times."""
        return "rows follow in time: later ones are expected" if self.clock else ""

    def slots(self) -> list[Slot]:
        """The point mass if there is one, the trend, then sine and cosine of each cycle."""
        parts = [self.parts[0], *(f"{wave} {c}" for c in self.cycles for wave in ("sin", "cos"))]
        slots = [Slot(self.name, self.kind, "student_t", part) for part in parts]
        point_mass = [] if self.point_mass is None else [point_mass_slot(self, self.point_mass[1])]
        return point_mass + slots

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Trend, sines and cosines; all are missing together."""
        moments, bad = cast.seconds(values, self.style)
        levels.check_readable(self.name, cast.plain(values), bad, start, "date or time")
        observed = ~np.isnan(moments)
        moments = np.where(observed, moments, self.trend_s[0])
        features = [(self._within_reach(moments) - self.trend_s[0]) / self.trend_s[1]]
        for cycle in self.cycles:
            turn = 2 * np.pi * (moments % CYCLES_S[cycle]) / CYCLES_S[cycle]
            features += [np.sin(turn) * np.sqrt(2), np.cos(turn) * np.sqrt(2)]  # unit variance
        matrix, known = np.stack(features, 1), np.repeat(observed[:, None], len(features), 1)
        if self.point_mass is not None:
            at_point_mass = (observed & (moments == self.point_mass[0]))[:, None]
            matrix = np.hstack([at_point_mass, np.where(at_point_mass, 0.0, matrix)])
            known = np.hstack([observed[:, None], known & ~at_point_mass])
        return matrix.astype(np.float32), known

    def _within_reach(self, moments: np.ndarray) -> np.ndarray:
        """The times; of a clock, those shortly beyond the training range are clipped to it."""
        if not self.clock:
            return moments
        first, last = self.range_s
        close = (moments >= 2 * first - last) & (moments <= 2 * last - first)
        return np.where(close, moments.clip(first, last), moments)

    def decode(self, features: np.ndarray) -> Any:
        """The time of the trend, rounded and within the range; or the point mass if likelier."""
        first, last = self.range_s
        return self._or_point_mass(features, self._moments(features).clip(first, last))

    def bounds(self, profile: Profile) -> Grid:
        """The first and the last time that may be drawn."""
        moments, _ = cast.seconds(profile.sample, self.style)
        first, last = self.range_s
        rows = int((moments == first).sum()), int((moments == last).sum())
        return {"between": base.between((first, last), rows, self.step_s)}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn time, within the grid, or the point mass."""
        return self._or_point_mass(features, base.legal(self._moments(features), grid or {}, 0.0))

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for times between the ends of the grid, or at the point mass."""
        return base.allowed(self._moments(features), grid) | self._at_point_mass(features)

    def exact(self, features: np.ndarray) -> np.ndarray:
        """The times of the trend alone, in seconds since 1970."""
        trend = features[:, int(self.point_mass is not None)].astype(np.float64)
        return self.trend_s[0] + self.trend_s[1] * trend

    def met(self) -> list[str]:
        """The first and the last ordinary time of training data, as texts."""
        return self.text(self.typed(np.array(self.range_s)))

    def _moments(self, features: np.ndarray) -> np.ndarray:
        """The times of the trend in seconds since 1970, rounded to the step."""
        return np.round(self.exact(features) / self.step_s) * self.step_s

    def _at_point_mass(self, features: np.ndarray) -> np.ndarray:
        return (features[:, 0] > 0.5) & (self.point_mass is not None)

    def _or_point_mass(self, features: np.ndarray, moments: np.ndarray) -> Any:
        """The times in the column's type, or the point mass where it is likely."""
        point_mass = moments if self.point_mass is None else self.point_mass[0]
        return self.typed(np.where(self._at_point_mass(features), point_mass, moments))

    def text(self, values: Any) -> list[str]:
        """Times in ISO 8601, without a time of day if the column has none."""
        return self._stamps(cast.seconds(values, self.style)[0])

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likely span, the part of each cycle that the time misses, or the point mass."""
        trend = int(self.point_mass is not None)
        low, high = self._ends(predicted.low[:, trend], predicted.high[:, trend])
        moments = self.exact(features)
        slack = self.step_s / 2 + 1e-6 * self.trend_s[1]  # features are float32
        in_span = (low - slack <= moments) & (moments <= high + slack)
        first, last = self.range_s
        vague = (high - low > MAX_TURN * (last - first)) | self.clock  # a log row has any time
        in_span |= vague & (first - slack <= moments) & (moments <= last + slack)
        known, spans = ~words.outside(low, high, self.range_s), self._span_texts(low, high)
        cycles = self._unusual_cycles(features[:, trend + 1 :], predicted, trend + 1)
        texts = [
            f"{' and '.join(parts if fits and parts else [span, *parts])} {LEVEL}"
            for span, fits, parts in zip(spans, in_span, cycles, strict=True)
        ]
        fits = in_span & np.array([not parts for parts in cycles], bool)
        unit = DAY_S if self.step_s == DAY_S else 1.0  # texts name days or seconds
        numbers = np.floor(np.column_stack([moments, low, high]) / unit) * unit
        only_cycles = in_span & ~fits  # neither before nor after what was expected
        numbers[only_cycles, 1:] = numbers[only_cycles, :1]
        if self.point_mass is not None:
            text = self.text(self.typed(np.array(self.point_mass[:1])))[0]
            share, at_point_mass = predicted.middle[:, 0], self._at_point_mass(features)
            expected = Expected(texts, fits, known, numbers)
            return words.with_point_mass(self.point_mass[0], text, at_point_mass, share, expected)
        return words.known_only(texts, fits, known, numbers)

    def _unusual_cycles(
        self, waves: np.ndarray, predicted: Prediction, first_wave: int
    ) -> list[list[str]]:
        """For each row, the expected part of each cycle that its time is outside of."""
        texts: list[list[str]] = [[] for _ in waves]
        for i, cycle in enumerate(self.cycles):
            angle = np.arctan2(waves[:, 2 * i], waves[:, 2 * i + 1])
            feature = first_wave + 2 * i
            first, last = predicted.low[:, feature], predicted.high[:, feature]
            narrow = last - first <= MAX_TURN * 2 * np.pi
            for row in np.flatnonzero(narrow & ((angle - first) % (2 * np.pi) > last - first)):
                texts[row].append(cycle_text(cycle, first[row], last[row]))
        return texts

    def usual(self, low: float, high: float) -> tuple[str, float, float]:
        """The span between two values of the trend feature, in words, and its ends."""
        first, last = self._ends(np.array([low]), np.array([high]))
        return self._span_texts(first, last)[0], float(first[0]), float(last[0])

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ends of a span in seconds since 1970, within the years 1 to 9999."""
        center, scale = self.trend_s
        ends = (center + scale * end.astype(np.float64) for end in (low, high))
        first, last = (np.clip(end, *CALENDAR_S) for end in ends)
        return first, last

    def _span_texts(self, low: np.ndarray, high: np.ndarray) -> list[str]:
        ends = zip(self._stamps(low), self._stamps(high), strict=True)
        return [a if a == b else f"{a} to {b}" for a, b in ends]

    def _stamps(self, moments: np.ndarray) -> list[str]:
        """Times in ISO 8601; "missing" for NaN."""
        unit = "D" if self.step_s == DAY_S else "s"
        gaps = np.isnan(moments)
        whole = np.floor(np.where(gaps, 0, moments)).clip(-MAX_S, MAX_S)
        stamps = whole.astype(np.int64).astype("datetime64[s]").astype(f"datetime64[{unit}]")
        return ["missing" if gap else str(stamp) for gap, stamp in zip(gaps, stamps, strict=True)]

    def typed(self, moments: np.ndarray) -> Any:
        """Times in seconds, in the column's type."""
        if self.style in dates.EPOCHS:
            units = moments / dates.EPOCHS[self.style]
            if self.type in {"float", "double"}:
                return cast.array(units, self.type)
            whole = pa.array(np.round(units).astype(np.int64))
            return whole.cast(cast.type_named(self.type), safe=False)
        numeric = self.type.startswith(("int", "uint"))
        if self.type != "string" and not numeric:
            return cast.of_seconds(moments, self.type)
        stamps = pa.array((moments * 1e6).round().astype(np.int64)).cast(pa.timestamp("us"))
        if self.style == cast.ISO:
            if self.step_s >= 1:  # then no text shows a fraction of a second
                stamps = stamps.cast(pa.date32() if self.step_s == DAY_S else pa.timestamp("s"))
            return stamps.cast(pa.string())
        texts = pa.array(dates.write(moments, self.style), pa.string())
        return texts.cast(cast.type_named(self.type)) if numeric else texts
