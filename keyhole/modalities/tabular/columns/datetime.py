"""Dates and times: a trend, and sine and cosine of the day, the week and the year."""

from typing import Any, Self

import numpy as np

from keyhole.core.layout import CLOCK, TREND, Slot
from keyhole.data import arrow_types, cast, dates, levels
from keyhole.errors import SettingError
from keyhole.modalities.expected import (
    LEVEL,
    Expected,
    Prediction,
    known_only,
    outside,
    with_point_mass,
)
from keyhole.modalities.tabular.columns.base import Column, point_mass_slot
from keyhole.modalities.tabular.columns.grids import Grid, between, inside, legal
from keyhole.modalities.tabular.profile import Profile

LEAST_POINT_MASS = 0.01  # share of rows that makes a moment far from all others a value of its own
LEAST_VALUES = 5  # distinct moments from which on some of them can be called far from the others
APART = 3.0  # times the middle half of the distinct moments: a gap beyond which moments are far
FEW = 0.01  # share of distinct moments that may be far from the others
DAY_S = float(cast.DAY_S)
CYCLES_S = {"day": DAY_S, "week": 7 * DAY_S, "year": 365.2425 * DAY_S}
WEEK = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970 began on a Thursday
ORDERED, LEAST_ORDERED = 0.98, 20  # share of steps in one direction, of so many moments


def ordinary_of(met: np.ndarray) -> tuple[np.ndarray, list[float] | None]:
    """Which moments are not far from all others; of those that are, a frequent one and its share.

    Far is beyond a gap that is much wider than the middle half of the distinct moments, with few
    distinct moments behind it.
    """
    ordinary = ~np.isnan(met)
    values, counts = np.unique(met[ordinary], return_counts=True)
    if len(values) < LEAST_VALUES:
        return ordinary, None
    quarter, few = len(values) // 4, max(2, int(FEW * len(values)))
    gaps, width = np.diff(values), values[-1 - quarter] - values[quarter]
    wide = np.flatnonzero(gaps > APART * width)
    below, above = wide[wide < quarter], wide[wide >= len(gaps) - quarter]
    first = below[-1] + 1 if len(below) and below[-1] < few else 0
    last = above[0] if len(above) and len(gaps) - above[0] <= few else len(values) - 1
    ordinary &= (met >= values[first]) & (met <= values[last])
    apart = np.r_[counts[:first], np.zeros(last + 1 - first), counts[last + 1 :]]
    share = float(apart.max() / counts.sum())
    if share < LEAST_POINT_MASS:
        return ordinary, None
    return ordinary, [float(values[apart.argmax()]), min(share, 1 - 0.5 / float(counts.sum()))]


def is_ordered(moments: np.ndarray) -> bool:
    """True if nearly all rows are in the order of their times, or in reverse order."""
    steps = np.diff(moments)
    if len(np.unique(moments)) < LEAST_ORDERED:
        return False
    return bool(max((steps >= 0).mean(), (steps <= 0).mean()) >= ORDERED)


def cycle_text(cycle: str, first: float, last: float) -> str:
    """The part of a cycle between two angles: «08:10 to 19:40 of the day», «Mon to Fri»."""
    ends = [angle % (2 * np.pi) / (2 * np.pi) * CYCLES_S[cycle] for angle in (first, last)]
    if cycle == "week":
        return " to ".join(WEEK[int(end // DAY_S) % 7] for end in ends)
    stamps = [np.datetime64(int(end), "s") for end in ends]
    if cycle == "day":
        return " to ".join(str(stamp)[11:16] for stamp in stamps) + " of the day"
    return " to ".join(str(stamp)[5:10] for stamp in stamps) + " (month-day)"


FARTHEST_S = 9.2e18  # of a timestamp in seconds

MOMENTS_S = (-62_135_596_800.0, 253_402_300_799.0)  # of the years 1 to 9999
MOST_TURN = 0.8  # of a cycle or of all time met: a wider part of it is no expectation


class Datetime(Column):
    """A moment in UTC; its cells are a standardised trend and a sine and cosine for each cycle.

    A cycle is kept where the data goes round it twice and resolves it: dates without times have
    no day cycle. Range and scale are those of ordinary moments: a few that lie apart from all
    others, such as 9999-12-31, do not count. With an `atom` (the most frequent of these, and its
    share) there is a Bernoulli cell "is the atom", and the other cells are observed only in other
    rows. `trend_s` are center and scale, `parts` the trend and the cycles. Where the rows of
    training follow each other in time, the trend is called clock, and later rows are expected: a
    moment as far beyond the range as the range is long, or less, has the trend of that end.
    """

    kind = "datetime"

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
        self.name = name
        self.trend_s = trend_s
        self.range_s = range_s
        self.step_s = step_s
        self.parts = parts
        self.style = style
        self.type = type
        self.point_mass = point_mass

    @property
    def clock(self) -> bool:
        """True where the rows of training follow each other in time."""
        return self.parts[0] == CLOCK

    @property
    def cycles(self) -> list[str]:
        """The cycles that have features."""
        return self.parts[1:]

    def check(self) -> None:
        """Refuse a style or a cycle that no fit makes: Arrow's reader crashes on odd formats.

        Raises: SettingError.
        """
        if not dates.check(self.style):
            raise SettingError(f"style={self.style!r:.40} is an unsupported datetime format")
        once = len(set(self.parts)) == len(self.parts) and set(self.cycles) <= set(CYCLES_S)
        if not once or self.parts[:1] not in ([TREND], [CLOCK]):
            raise SettingError(
                f"parts={self.parts!r:.40}: not {TREND} or {CLOCK}, then cycles once"
            )
        pairs = [self.trend_s, self.range_s, self.point_mass or [0.0, 0.5]]
        if any(len(pair) != 2 for pair in pairs) or not (self.trend_s[1] > 0 < pairs[2][1] < 1):
            raise SettingError(f"trend_s, range_s, atom={pairs!r:.60}: pairs, a share below 1")

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Trend, step and cycles from the sample."""
        style = profile.style or cast.ISO
        met, _ = cast.seconds(profile.sample, style)
        ordinary, point_mass = ordinary_of(met)
        moments = met[ordinary] if ordinary.any() else np.zeros(1)
        step = next((s for s in (DAY_S, 60.0, 1.0) if not np.any(moments % s)), 1e-6)
        span = float(np.ptp(moments))
        cycles = [name for name, s in CYCLES_S.items() if span >= 2 * s and step < s]
        kind = arrow_types.name(profile.arrow_type)
        range_s = [float(moments.min()), float(moments.max())]
        if arrow_types.is_datetime(kind):
            ends = arrow_types.ends_of(profile.sample.filter(ordinary))
            range_s = arrow_types.narrowed(
                range_s, ends, lambda s: arrow_types.of_seconds(s, kind)
            )
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
        """Said of a column that rows follow in time."""
        return "rows follow in time: later ones are expected" if self.clock else ""

    def slots(self) -> list[Slot]:
        """The point mass if there is one, the trend, then sine and cosine of each cycle."""
        parts = [self.parts[0], *(f"{wave} {c}" for c in self.cycles for wave in ("sin", "cos"))]
        slots = [Slot(self.name, self.kind, "student_t", part) for part in parts]
        return (
            slots
            if self.point_mass is None
            else [point_mass_slot(self, self.point_mass[1]), *slots]
        )

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Trend and waves, all missing together."""
        moments, bad = cast.seconds(values, self.style)
        levels.unreadable(self.name, cast.plain(values), bad, start, "date or time")
        observed = ~np.isnan(moments)
        moments = np.where(observed, moments, self.trend_s[0])
        features = [(self._within_reach(moments) - self.trend_s[0]) / self.trend_s[1]]
        for cycle in self.cycles:
            turn = 2 * np.pi * (moments % CYCLES_S[cycle]) / CYCLES_S[cycle]
            features += [np.sin(turn) * np.sqrt(2), np.cos(turn) * np.sqrt(2)]  # unit variance
        values, each_seen = np.stack(features, 1), np.repeat(observed[:, None], len(features), 1)
        if self.point_mass is not None:
            at_point_mass = observed & (moments == self.point_mass[0])
            values = np.column_stack(
                [at_point_mass, np.where(at_point_mass[:, None], 0.0, values)]
            )
            each_seen = np.column_stack([observed, each_seen & ~at_point_mass[:, None]])
        return values.astype(np.float32), each_seen

    def _within_reach(self, moments: np.ndarray) -> np.ndarray:
        """The times in seconds, those shortly outside the training range clipped to it."""
        if not self.clock:
            return moments
        first, last = self.range_s
        near = (moments >= 2 * first - last) & (moments <= 2 * last - first)
        return np.where(near, moments.clip(first, last), moments)

    def decode(self, features: np.ndarray) -> Any:
        """The moment that the trend gives, to the step of the column and within its range.

        Or the point mass, if that is likelier.
        """
        return self._or_point_mass(
            features, np.clip(self._moments(features), self.range_s[0], self.range_s[1])
        )

    def bounds(self, profile: Profile) -> Grid:
        """The first and the last moment of the sample, where rows share them."""
        moments, _ = cast.seconds(profile.sample, self.style)
        rows = [int((moments == end).sum()) for end in self.range_s]
        first, last = self.range_s
        return {"between": between((first, last), (rows[0], rows[1]), self.step_s)}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn time, within the range of training, or the point mass."""
        return self._or_point_mass(features, legal(self._moments(features), grid or {}, 0.0))

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for times in the range of training, or at the point mass."""
        return inside(self._moments(features), grid) | self._at_point_mass(features)

    def seconds(self, features: np.ndarray) -> np.ndarray:
        """The times of the trend alone, in seconds since 1970."""
        trend = features[:, int(self.point_mass is not None)].astype(np.float64)
        return self.trend_s[0] + self.trend_s[1] * trend

    def met(self) -> list[str]:
        """The first and the last ordinary time of training, as texts."""
        return self.text(self.typed(np.array(self.range_s)))

    def _moments(self, features: np.ndarray) -> np.ndarray:
        """Seconds since 1970 that the trend gives, to the step, wherever they lie."""
        return np.round(self.seconds(features) / self.step_s) * self.step_s

    def _at_point_mass(self, features: np.ndarray) -> np.ndarray:
        return (
            features[:, 0] > 0.5 if self.point_mass is not None else np.zeros(len(features), bool)
        )

    def _or_point_mass(self, features: np.ndarray, moments: np.ndarray) -> Any:
        """The times in the column's type, with the point mass where it is likely."""
        point_mass = moments if self.point_mass is None else self.point_mass[0]
        return self.typed(np.where(self._at_point_mass(features), point_mass, moments))

    def text(self, values: Any) -> list[str]:
        """Moments in ISO 8601, without a time where the column has none."""
        return self._stamps(cast.seconds(values, self.style)[0])

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likely span of time, and of each cycle the part that the value falls out of.

        Or the point mass, if that is likely.
        """
        trend = int(self.point_mass is not None)
        low, high = self._ends(predicted.low[:, trend], predicted.high[:, trend])
        moments = self.seconds(features)
        slack = self.step_s / 2 + 1e-6 * self.trend_s[1]  # features are float32
        in_span = (low - slack <= moments) & (moments <= high + slack)
        wide = high - low > MOST_TURN * (self.range_s[1] - self.range_s[0])
        wide |= self.clock  # a row of a log may be of any time
        in_span |= (
            wide & (self.range_s[0] - slack <= moments) & (moments <= self.range_s[1] + slack)
        )
        known, spans = ~outside(low, high, self.range_s), self._span_texts(low, high)
        odd = self._odd_cycles(features[:, trend + 1 :], predicted, trend + 1)
        texts = [
            f"{' and '.join(parts) if inside and parts else ' and '.join([span, *parts])} {LEVEL}"
            for span, inside, parts in zip(spans, in_span, odd, strict=True)
        ]
        fits = in_span & np.array([not parts for parts in odd], bool)
        numbers = self._floored(np.column_stack([moments, low, high]))
        only_cycles = in_span & ~fits  # neither before nor after what was expected
        numbers[only_cycles, 1:] = numbers[only_cycles, :1]
        if self.point_mass is not None:
            value, share = self.point_mass[0], predicted.middle[:, 0]
            text = self.text(self.typed(np.array([value])))[0]
            rest = Expected(texts, fits, known, numbers)
            return with_point_mass(value, text, self._at_point_mass(features), share, rest)
        return known_only(texts, fits, known, numbers)

    def _odd_cycles(
        self, turns: np.ndarray, predicted: Prediction, first_cell: int
    ) -> list[list[str]]:
        """For each row, the expected part of each cycle that its time is outside of."""
        odd: list[list[str]] = [[] for _ in turns]
        for place, cycle in enumerate(self.cycles):
            angle = np.arctan2(turns[:, 2 * place], turns[:, 2 * place + 1])
            at = first_cell + 2 * place
            first, last = predicted.low[:, at], predicted.high[:, at]
            wide = last - first > MOST_TURN * 2 * np.pi
            apart = ~wide & ((angle - first) % (2 * np.pi) > last - first)
            for row in np.flatnonzero(apart):
                odd[row].append(cycle_text(cycle, first[row], last[row]))
        return odd

    def usual(self, low: float, high: float) -> tuple[str, float, float]:
        """The span between two values of the trend feature, in words, and its ends."""
        first, last = self._ends(np.array([low]), np.array([high]))
        return self._span_texts(first, last)[0], float(first[0]), float(last[0])

    def _floored(self, moments: np.ndarray) -> np.ndarray:
        """Seconds since 1970 of the day or second that the text of a moment names."""
        unit = DAY_S if self.step_s == DAY_S else 1.0
        return np.floor(moments / unit) * unit

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds since 1970, within what a calendar holds."""
        first, last = (
            np.clip(self.trend_s[0] + self.trend_s[1] * end.astype(np.float64), *MOMENTS_S)
            for end in (low, high)
        )
        return first, last

    def _span_texts(self, low: np.ndarray, high: np.ndarray) -> list[str]:
        ends = zip(self._stamps(low), self._stamps(high), strict=True)
        return [a if a == b else f"{a} to {b}" for a, b in ends]

    def _stamps(self, moments: np.ndarray) -> list[str]:
        """Moments in ISO 8601, "missing" for NaN."""
        unit = "D" if self.step_s == DAY_S else "s"
        gaps = np.isnan(moments)
        whole = np.floor(np.where(gaps, 0, moments)).clip(-FARTHEST_S, FARTHEST_S)
        stamps = whole.astype(np.int64).astype("datetime64[s]").astype(f"datetime64[{unit}]")
        return ["missing" if gap else str(stamp) for gap, stamp in zip(gaps, stamps, strict=True)]

    def typed(self, moments: np.ndarray) -> Any:
        """Times in seconds, clipped to the range of training, in the column's type."""
        import pyarrow as pa

        if self.style in dates.EPOCHS:
            return self._counted(moments)
        numeric = self.type.startswith(("int", "uint"))
        if self.type != "string" and not numeric:
            return arrow_types.of_seconds(moments, self.type)
        stamps = pa.array((moments * 1e6).round().astype(np.int64)).cast(pa.timestamp("us"))
        if self.style == cast.ISO:
            day = self.step_s == DAY_S
            if day:
                return stamps.cast(pa.date32()).cast(pa.string())
            whole = self.step_s >= 1  # then no text shows a fraction of a second
            return (stamps.cast(pa.timestamp("s")) if whole else stamps).cast(pa.string())
        texts = pa.array(dates.write(moments, self.style), pa.string())
        return texts.cast(arrow_types.named(self.type)) if numeric else texts

    def _counted(self, moments: np.ndarray) -> Any:
        """Moments as numbers since 1970, in the unit and the type of training."""
        import pyarrow as pa

        units = moments / dates.EPOCHS[self.style]
        if self.type in {"float", "double"}:
            return arrow_types.array(units, self.type)
        whole = pa.array(np.round(units).astype(np.int64))
        return whole.cast(arrow_types.named(self.type), safe=False)
