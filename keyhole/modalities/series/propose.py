"""How a table of readings becomes a series: its clock, its channels, and the length of windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from keyhole.data import cast, dates
from keyhole.data.lazy import pa, pc, pt
from keyhole.data.series import StepSource, WindowSource
from keyhole.data.source import ArrowRows, Source, TableSource, check_columns
from keyhole.data.tracks import WindowSpec
from keyhole.errors import DataError, SettingError
from keyhole.modalities.profile import SourceProfile
from keyhole.modalities.schema import Schema, style_of

MAX_LOOK_ROWS = 200_000  # first rows, from which clock and window are proposed
PATCHES = 8  # of a window: each is masked and explained as one
DEFAULT_WINDOW, MIN_WINDOW, MAX_WINDOW = 32, 8, 128  # steps
MIN_WINDOWS = 8  # that a series should hold behind each other
TRAINING_WINDOWS = 4_000  # windows overlap more where a series is shorter
MIN_PAUSE = 5  # steps: a shorter one is a gap within a segment
PAUSE = 3.0  # times the longest usual distance of two readings
PEAK = 0.3  # autocorrelation at a period
MAX_TAGS = 1_000  # channels of a long format


class SeriesSchema(Schema):
    """What the user says of sensor series.

    Parameters
    ----------
    time : str, default=None
        The column of time stamps; it is required.
    group : str, default=None
        The column that names the machine of each reading. None: there is one machine.
    every : float, default=None
        Seconds from one step to the next. None: proposed from the data.
    window : int, default=None
        Steps of a window, from 4 to 4,096. None: proposed from the data.
    kinds : dict of str to str, default=None
        The kind of a channel by its name, as in `Schema`.
    only : list of str, default=None
        Learn from these channels alone.
    exclude : list of str, default=None
        Do not learn from these channels.

    Raises
    ------
    SettingError
        In `fit`, for an invalid step or window, or without `time`.

    Examples
    --------
    >>> from keyhole import AnomalyDetector, SeriesSchema
    >>> schema = SeriesSchema(time="ts", group="machine", every=60, window=32)
    >>> AnomalyDetector(schema=schema).schema.window
    32
    """

    kind = "series"

    def __init__(
        self,
        *,
        time: str | None = None,
        group: str | None = None,
        every: float | None = None,
        window: int | None = None,
        kinds: dict[str, str] | None = None,
        only: list[str] | None = None,
        exclude: list[str] | None = None,
    ) -> None:
        super().__init__(kinds=kinds, only=only, exclude=exclude, time=time, group=group)
        self.every, self.window = every, window

    def check(self) -> None:
        """Raises: SettingError for an invalid step or window."""
        super().check()
        if self.every is not None and not self.every > 0:
            raise SettingError(f"every={self.every!r:.40}: give seconds above 0")
        if self.window is not None and not 4 <= self.window <= 4_096:
            raise SettingError(f"window={self.window!r:.40}: give 4 to 4,096 steps")


def propose(source: Source, schema: Schema) -> WindowSpec:
    """The windows of a source of readings to learn from. Raises: DataError, SettingError."""
    schema.check()
    if schema.time is None:
        raise SettingError("a series needs time=COLUMN, the column of its time stamps")
    schema = schema.matched(source.names)
    check_columns(schema.named(), source.names, "the schema")
    head = _head(source)
    profile = SourceProfile(head, head.names, schema.kind_of, schema.format_of)
    if profile.rows == 0:
        raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")
    time = str(schema.time)
    style = _style(profile.profiles[time], schema)
    names = _channel_names(source.names, schema)
    spec = WindowSpec(time, tuple(names), style, 1.0, 1, 1, 1, schema.group)
    spec = _long(spec, head, profile)
    moments, track = _moments(head, spec)
    every = getattr(schema, "every", None) or _every(moments, track, source.name)
    spec = replace(spec, every=float(every), max_gap=_max_gap(moments, track, every))
    window, why = _window(spec, head, getattr(schema, "window", None))
    patch = max(1, round(window / PATCHES))
    steps = sum(_steps_of_segments(moments, track, spec))
    stride = int(np.clip(steps // TRAINING_WINDOWS, 1, max(window // 2, 1)))
    spec = replace(spec, window=window, stride=stride)
    if max(_steps_of_segments(moments, track, spec), default=0) < window:
        raise DataError(
            f"{source.name}: no section of {window} steps of {every:g} s without a pause, so "
            "there is no window to learn from; give a shorter one, SeriesSchema(window=...), or "
            "longer steps, SeriesSchema(every=seconds)"
        )
    reason = (
        f"a step every {every:g} s; windows of {window} steps ({why}), in patches of {patch}; "
        f"a pause of more than {spec.max_gap} steps begins a new section"
    )
    return replace(spec, reason=reason)


def _head(source: Source) -> TableSource:
    tables, rows = [], 0
    for block in source.blocks(MAX_LOOK_ROWS):
        tables.append(block.arrow())
        rows += len(block)
        if rows >= MAX_LOOK_ROWS:
            break
    if not tables:
        raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")
    table = pa.concat_tables(tables, promote_options="permissive")
    return TableSource(ArrowRows(table), source.name)


def _style(profile: Any, schema: Schema) -> str:
    """How time stamps are written. Raises: DataError where none can be read."""
    typed = pt.is_timestamp(profile.arrow_type) or pt.is_date(profile.arrow_type)
    form = schema.format_of.get(profile.name, "")
    style = dates.ISO if typed else style_of(profile, form) or dates.epoch_style(profile.numbers())
    if style is None:
        raise DataError(
            f"time={profile.name!r}: this column holds no time stamps that can be read; name "
            f"another, or say how it is written: kinds={{{profile.name!r}: 'datetime:FORMAT'}}"
        )
    return style


def _channel_names(names: list[str], schema: Schema) -> list[str]:
    aside = {schema.time, schema.group, *(schema.exclude or [])}
    channels = [name for name in names if name not in aside]
    return [name for name in channels if schema.only is None or name in schema.only]


def _long(spec: WindowSpec, head: TableSource, profile: SourceProfile) -> WindowSpec:
    """The spec of a long format where the rows are one: time, tag, value."""
    if len(spec.channels) != 2:
        return spec
    profiles = [profile.profiles[name] for name in spec.channels]
    tags = [p for p in profiles if cast.is_text(p.sample.type) and not p.readable]
    values = [p for p in profiles if p not in tags]
    if len(tags) != 1 or not values or not 1 < len(tags[0].levels) <= MAX_TAGS:
        return spec
    moments, _ = cast.seconds(head.loaded.column(spec.time), spec.style)
    if len(np.unique(moments)) * 1.5 > len(moments):
        return spec  # one row a time stamp: a column of states beside a column of numbers
    texts = cast.texts(head.loaded.column(tags[0].name)).drop_null().unique().to_pylist()
    return replace(spec, channels=tuple(texts), tag=tags[0].name, value=values[0].name)


def _moments(head: TableSource, spec: WindowSpec) -> tuple[np.ndarray, np.ndarray]:
    """The times of the rows, in order for each track (a machine, or its tag), and the track."""
    rows = head.loaded
    moments, _ = cast.seconds(rows.column(spec.time), spec.style)
    track = np.zeros(len(moments), np.int64)
    for name in (spec.group, spec.tag):
        if name is not None:
            codes = pc.fill_null(cast.texts(rows.column(name)), "").dictionary_encode().indices
            track = track * 100_003 + codes.to_numpy(zero_copy_only=False)
    order = np.lexsort([moments, track])
    order = order[np.isfinite(moments[order])]
    return moments[order], track[order]


def _distances(moments: np.ndarray, track: np.ndarray) -> Float[np.ndarray, " pair"]:
    """Seconds between readings behind each other, of one machine and channel; none of 0."""
    apart = np.diff(moments)[np.diff(track) == 0]
    return apart[apart > 0]


def _every(moments: np.ndarray, track: np.ndarray, name: str) -> float:
    """The median distance of two readings, rounded to a number that people use."""
    apart = _distances(moments, track)
    if not len(apart):
        raise DataError(f"{name}: no two rows have different times, so it is not a series")
    median = float(np.median(apart))
    nearest = max(round(median), 1)
    return float(nearest) if abs(median - nearest) <= 0.02 * median else float(f"{median:.3g}")


def _max_gap(moments: np.ndarray, track: np.ndarray, every: float) -> int:
    apart = _distances(moments, track)
    usual = float(np.quantile(apart, 0.99)) / every if len(apart) else 1.0
    return int(np.clip(np.ceil(PAUSE * usual), MIN_PAUSE, MAX_WINDOW))


def _steps_of_segments(moments: np.ndarray, track: np.ndarray, spec: WindowSpec) -> list[int]:
    """The steps of each segment of these rows."""
    track = track // 100_003 if spec.tag is not None else track
    order = np.lexsort([moments, track])
    moments, track = moments[order], track[order]
    apart = np.diff(moments) > (spec.max_gap + 0.5) * spec.every
    starts = np.flatnonzero(apart | (np.diff(track) != 0)) + 1
    parts = np.split(moments, starts)
    return [round((part[-1] - part[0]) / spec.every) + 1 for part in parts if len(part)]


def _window(spec: WindowSpec, head: TableSource, given: int | None) -> tuple[int, str]:
    """The steps of a window, and why."""
    if given is not None:
        return given, "as given"
    spec = replace(spec, window=1, stride=1)
    steps = StepSource(WindowSource(head, spec), spec)
    tables = [block.arrow() for block in steps.blocks(MAX_LOOK_ROWS)]
    table = pa.concat_tables(tables, promote_options="permissive")
    most = max(table.num_rows // MIN_WINDOWS, MIN_WINDOW)
    periods = [p for name in table.column_names if (p := _period(table.column(name), most))]
    if len(periods) * 3 >= table.num_columns:
        window, why = int(np.median(periods)), "the dominant period"
    else:
        window, why = DEFAULT_WINDOW, "the default: no period stands out"
    window = int(np.clip(window, MIN_WINDOW, MAX_WINDOW))
    if window > most:
        window, why = most, f"an eighth of the {table.num_rows:,} steps"
    patch = max(1, round(window / PATCHES))
    return max(window // patch, 1) * patch, why


def _period(values: Any, most: int) -> int | None:
    """The lag of the first high peak of a channel's autocorrelation; None where there is none."""
    numbers, bad = cast.floats(values)
    if len(bad) or np.isnan(numbers).mean() > 0.5 or len(numbers) < 4 * MIN_WINDOW:
        return None
    numbers = np.where(np.isnan(numbers), np.nanmean(numbers), numbers) - np.nanmean(numbers)
    if not numbers.std() > 0:
        return None
    size = 1 << (2 * len(numbers) - 1).bit_length()
    power = np.abs(np.fft.rfft(numbers, size)) ** 2
    lags = min(most, 4 * MAX_WINDOW, len(numbers) - 1)
    correlation = np.fft.irfft(power)[: lags + 1]
    correlation = correlation / correlation[0]
    dips = np.flatnonzero(correlation < 0)
    if not len(dips) or dips[0] >= lags:
        return None
    peak = int(dips[0] + correlation[dips[0] :].argmax())
    return peak if correlation[peak] > PEAK and peak < lags else None
