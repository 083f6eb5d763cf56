"""A date or time: a trend, and where in the day, the week and the year it falls."""

from typing import Any, Self

import numpy as np

from keyhole.columns import arrowtype, cast, dates, refuse
from keyhole.columns.base import Column
from keyhole.columns.grids import Grid, between, inside, legal
from keyhole.columns.profile import Profile
from keyhole.core.layout import Slot
from keyhole.errors import SettingError

DAY_S = 86_400.0
CYCLES_S = {"day": DAY_S, "week": 7 * DAY_S, "year": 365.2425 * DAY_S}


class Moment(Column):
    """A moment in UTC; its cells are a standardised trend and a sine and cosine for each cycle.

    A cycle is kept where the data goes round it twice and resolves it: dates without times have
    no day cycle.
    """

    kind = "moment"

    def __init__(
        self,
        name: str,
        *,
        center_s: float,
        scale_s: float,
        range_s: list[float],
        step_s: float,
        cycles: list[str],
        style: str,
        type: str,
    ) -> None:
        self.name = name
        self.center_s = center_s
        self.scale_s = scale_s
        self.range_s = range_s
        self.step_s = step_s
        self.cycles = cycles
        self.style = style
        self.type = type

    def check(self) -> None:
        """Refuse a style or a cycle that no fit makes: Arrow's reader crashes on odd formats.

        Raises: SettingError.
        """
        if not dates.check(self.style):
            raise SettingError(f"style={self.style!r:.40} is no way that moments are written")
        if len(set(self.cycles)) < len(self.cycles) or not set(self.cycles) <= set(CYCLES_S):
            raise SettingError(f"cycles={self.cycles!r:.40}: from {list(CYCLES_S)}, each once")

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Trend, step and cycles from the sample."""
        style = profile.style or cast.ISO
        moments, _ = cast.seconds(profile.sample, style)
        moments = moments[~np.isnan(moments)]
        moments = moments if len(moments) else np.zeros(1)
        step = next((s for s in (DAY_S, 60.0, 1.0) if not np.any(moments % s)), 1e-6)
        span = float(np.ptp(moments))
        cycles = [name for name, s in CYCLES_S.items() if span >= 2 * s and step < s]
        return cls(
            profile.name,
            center_s=float(moments.mean()),
            scale_s=float(moments.std()) or DAY_S,
            range_s=[float(moments.min()), float(moments.max())],
            step_s=step,
            cycles=cycles,
            style=style,
            type=arrowtype.name(profile.arrow_type),
        )

    def slots(self) -> list[Slot]:
        """The trend, then sine and cosine of each cycle."""
        parts = ["trend", *(f"{wave} {c}" for c in self.cycles for wave in ("sin", "cos"))]
        return [Slot(self.name, self.kind, "student_t", part) for part in parts]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Trend and waves, all missing together."""
        moments, bad = cast.seconds(values, self.style)
        refuse.unreadable(self.name, cast.plain(values), bad, start, "date or time")
        seen = ~np.isnan(moments)
        moments = np.where(seen, moments, self.center_s)
        cells = [(moments - self.center_s) / self.scale_s]
        for cycle in self.cycles:
            turn = 2 * np.pi * (moments % CYCLES_S[cycle]) / CYCLES_S[cycle]
            cells += [np.sin(turn) * np.sqrt(2), np.cos(turn) * np.sqrt(2)]  # unit variance
        return np.stack(cells, 1).astype(np.float32), np.repeat(seen[:, None], len(cells), 1)

    def decode(self, cells: np.ndarray) -> Any:
        """The moment that the trend gives, to the step of the column and within its range."""
        return self._typed(np.clip(self._moments(cells), self.range_s[0], self.range_s[1]))

    def bounds(self, profile: Profile) -> Grid:
        """The first and the last moment of the sample, where rows share them."""
        moments, _ = cast.seconds(profile.sample, self.style)
        rows = [int((moments == end).sum()) for end in self.range_s]
        first, last = self.range_s
        return {"between": between((first, last), (rows[0], rows[1]), self.step_s)}

    def drawn(self, cells: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn moment, within what was met."""
        return self._typed(legal(self._moments(cells), grid or {}, 0.0))

    def allows(self, cells: np.ndarray, grid: Grid) -> np.ndarray:
        """True where the moment lies between the first and the last."""
        return inside(self._moments(cells), grid)

    def _moments(self, cells: np.ndarray) -> np.ndarray:
        """Seconds since 1970 that the trend gives, wherever they lie."""
        moments = self.center_s + self.scale_s * cells[:, 0].astype(np.float64)
        return np.round(moments / self.step_s) * self.step_s

    def text(self, values: Any) -> list[str]:
        """Moments in ISO 8601, without a time where the column has none."""
        moments, _ = cast.seconds(values, self.style)
        unit = "D" if self.step_s == DAY_S else "s"
        gaps = np.isnan(moments)
        stamps = (
            np.where(gaps, 0, moments * 1e6).astype("datetime64[us]").astype(f"datetime64[{unit}]")
        )
        return ["missing" if gap else str(stamp) for gap, stamp in zip(gaps, stamps, strict=True)]

    def expected(self, middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[str]:
        """The likely span of time."""
        ends = zip(self.text(self.decode(low)), self.text(self.decode(high)), strict=True)
        return [a if a == b else f"{a} to {b}" for a, b in ends]

    def _typed(self, moments: np.ndarray) -> Any:
        import pyarrow as pa

        stamps = pa.array((moments * 1e6).round().astype(np.int64)).cast(pa.timestamp("us"))
        if self.style in dates.EPOCHS:
            return self._counted(moments)
        numeric = self.type.startswith(("int", "uint"))
        if self.type != "string" and not numeric:
            return stamps.cast(arrowtype.named(self.type), safe=False)
        if self.style == cast.ISO:
            day = self.step_s == DAY_S
            if day:
                return stamps.cast(pa.date32()).cast(pa.string())
            whole = self.step_s >= 1  # then no text shows a fraction of a second
            return (stamps.cast(pa.timestamp("s")) if whole else stamps).cast(pa.string())
        texts = pa.array(dates.write(moments, self.style), pa.string())
        return texts.cast(arrowtype.named(self.type)) if numeric else texts

    def _counted(self, moments: np.ndarray) -> Any:
        """Moments as numbers since 1970, in the unit and the type of training."""
        import pyarrow as pa

        units = moments / dates.EPOCHS[self.style]
        if self.type in {"float", "double"}:
            return arrowtype.array(units, self.type)
        whole = pa.array(np.round(units).astype(np.int64))
        return whole.cast(arrowtype.named(self.type), safe=False)
