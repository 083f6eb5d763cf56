"""Change of world: when new windows of a series no longer look like those of training.

The mean of each watched feature over some windows, and over four times as many, is compared with
training. A report needs a mean that new windows as those of training exceed with a tiny
probability; over a whole stream, however long, these add up to `FALSE_REPORT`. A window counts at
most so much that half of the windows reach two thirds of a limit: a single event is no change.
Source: moving sums of Chu, Hornik and Kuan (1995); Kirch and Weber (2018) for monitoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.autoencoder.state import refuse
from keyhole.core.records import Batch
from keyhole.store import record
from keyhole.tasks.detect.scorer import Scorer
from keyhole.tasks.detect.watched import CODE, Feature, Usual

FALSE_REPORT = 0.05  # chance of any false report over the stream of a machine
SPENT_BY = 1_024  # windows that share no step: by then half of that chance is used up
SHORTEST_STEPS, SHORTEST_WINDOWS = 256, 8  # of the means that are compared
LONGER = 4  # times as many windows
WEIGHT = 1.3  # of a threshold: what one window counts at most
REFRESH = 64  # windows after which thresholds are computed again
MAX_LIMITS = 64  # that are stored
FARTHEST = 1e6  # of a feature from its usual value

Values = Float[np.ndarray, "window feature"]


@dataclass(frozen=True)
class Change:
    """What no longer looks like training, and since when; moments in UTC.

    `at` is the last step of the window where it was reported, `since` the estimated beginning.
    `what` is a channel, "a and b" for the relation of two channels, or "the code". `kind` is
    "level", "shares" (of a channel's levels), "relation", "spread", "gaps" or "code"; `above` is
    True where the figure is now larger than in training. `group` is the machine, None for one.
    """

    at: np.datetime64
    since: np.datetime64
    what: str
    kind: str
    above: bool
    group: str | None = None

    def __repr__(self) -> str:
        return f"<Change {self.text}>"

    @property
    def text(self) -> str:
        """One sentence for a user."""
        of_machine = "" if self.group is None else f" of {self.group}"
        side = "above" if self.above else "below"
        sentence = {
            "level": f"the level of {self.what}{of_machine} is {side} what training shows",
            "shares": f"the shares of the levels of {self.what}{of_machine} differ from training",
            "relation": f"the relation of {self.what}{of_machine} differs from training",
            "spread": f"{self.what}{of_machine} varies {'more' if self.above else 'less'} than "
            "in training",
            "gaps": f"{self.what}{of_machine} has {'more' if self.above else 'fewer'} gaps than "
            "in training",
            "code": f"{self.what}{of_machine} no longer looks like training, although no "
            "single channel differs",
        }[self.kind]
        return f"since {str(self.since.astype('datetime64[s]')).replace('T', ' ')} {sentence}"

    def as_json(self) -> dict[str, Any]:
        """The change as JSON: moments as ISO 8601."""
        moments = {"at": str(self.at), "since": str(self.since)}
        others = {name: getattr(self, name) for name in ("what", "kind", "above", "group")}
        return {**moments, **others, "text": self.text}


@dataclass
class MachineState:
    """What is known of a machine: its newest windows, and what was reported.

    `latest` is the last moment of the newest window that counts, in milliseconds; `count` is how
    many windows counted. `offsets` are the features of the newest ones, beyond the usual, `ends`
    their last moments. `reported` are channels, and the code.
    """

    latest: int | None = None
    count: int = 0
    reported: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    offsets: list[list[float]] = field(default_factory=list)


class WorldMonitor:
    """Takes windows as they come and reports changes of the world; bounded memory.

    A channel that was reported is not reported again until `reset`, and does not judge others
    either; nor is the code watched after a report.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.modality: Any = scorer.table
        self.network, self.reference = scorer.anomaly_score.network, scorer.reference
        spec = self.modality.spec
        shortest = max(SHORTEST_WINDOWS, -(-SHORTEST_STEPS // spec.window))
        self.lengths = (shortest, LONGER * shortest)
        self.span = round(1e3 * spec.every * spec.window)  # milliseconds of a window
        self.slack = round(500 * spec.every)  # moments are rounded to milliseconds
        self.machines: dict[str, MachineState] = {}
        self._usual: dict[frozenset[str], Usual] = {}
        self._limits: dict[tuple[frozenset[str], int], np.ndarray] = {}
        self.usual(frozenset())

    def add(
        self, batch: Batch, times: np.ndarray, groups: Sequence[str | None] | None = None
    ) -> list[Change]:
        """The changes that these windows show.

        `times` are the last moments of the windows, those of a machine in their order; `groups`
        their machines.
        """
        ends = np.asarray(times).astype("datetime64[ms]").astype(np.int64)
        changes = []
        names = np.array([name or "" for name in groups or [None] * len(ends)], dtype=object)
        for name in dict.fromkeys(names.tolist()):
            machine = self.machines.setdefault(name, MachineState())
            chosen = self._apart(machine, ends, np.flatnonzero(names == name))
            if len(chosen):
                windows = batch.take(torch.from_numpy(chosen))
                changes += self._follow(machine, windows, ends[chosen], name or None)
        return changes

    def reset(self, group: str | None = None) -> None:
        """Watch all channels of a machine again, from its next window on."""
        machine = self.machines.get(group or "")
        if machine is not None:
            machine.reported, machine.ends, machine.offsets = [], [], []

    def forget(self, group: str) -> None:
        """Leave out a machine of which no row comes any more; if one does, it is a new one."""
        self.machines.pop(group, None)

    def to_json(self) -> dict[str, Any]:
        """The state of all machines, as JSON."""
        return {"machines": {name: asdict(machine) for name, machine in self.machines.items()}}

    @classmethod
    def from_json(cls, scorer: Scorer, state: dict[str, Any]) -> Self:
        """The monitor that `to_json` described. Raises: BundleError."""
        monitor = cls(scorer)
        for name, described in state["machines"].items():
            where = f"the world of machine {name!r:.40}"
            machine = record(MachineState, described, where)
            monitor._check(machine, where)
            monitor.machines[name] = machine
        return monitor

    def _check(self, machine: MachineState, where: str) -> None:
        """Raises: BundleError for a state that is not of this model."""
        names = {CODE, *self.usual(frozenset()).watched.columns}
        known = set(machine.reported) <= names
        refuse({"reported: channels of this model": not known}, where)
        width = len(self.usual(frozenset(machine.reported)).watched.features)
        sizes = {len(offsets) for offsets in machine.offsets}
        count = len(machine.offsets)
        wrong = {
            "offsets: a number for each feature": not sizes <= {width},
            "ends: one for each window": len(machine.ends) != count,
            "count: at least the windows": not count <= machine.count,
            "windows: too many": count > self.lengths[-1],
        }
        refuse(wrong, where)

    def _apart(self, machine: MachineState, ends: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The places of windows that share no step with one that counted before."""
        chosen = []
        for place in places:
            end, latest = int(ends[place]), machine.latest
            if latest is None or end >= latest + self.span - self.slack or end < latest:
                chosen.append(place)
                machine.latest = end
        return np.array(chosen, np.int64)

    def _follow(
        self, machine: MachineState, windows: Batch, ends: np.ndarray, group: str | None
    ) -> list[Change]:
        """The changes that windows of a machine show, which share no step."""
        changes, first, offsets = [], 0, None
        while first < len(ends):
            usual = self.usual(frozenset(machine.reported))
            if offsets is None:
                offsets = _offsets(usual, windows.take(slice(first, None)))
            count, exceeds = self._take(machine, offsets, ends[first:])
            first, offsets = first + count, offsets[count:]
            change = self._report(machine, usual, group) if exceeds else None
            if change is not None:
                changes.append(change)
                offsets = None  # other features from now on
        return changes

    def usual(self, reported: frozenset[str]) -> Usual:
        """What is usual of the channels that were not reported."""
        if reported not in self._usual:
            self._usual[reported] = Usual.learn(
                self.modality, self.network, self.reference, reported, self.lengths
            )
        return self._usual[reported]

    def limits(self, reported: frozenset[str], count: int) -> Float[np.ndarray, "length feature"]:
        """By how much means may differ from training after so many windows.

        Of `FALSE_REPORT`, window n spends a part n0 / ((n0 + n - 1)(n0 + n)), and of that every
        mean the same: these parts add up to one over an endless stream.
        """
        turn = count // REFRESH
        if (reported, turn) not in self._limits:
            latest = SPENT_BY + (turn + 1) * REFRESH
            long_run = self.usual(reported).long_run
            means = len(long_run.center) * len(self.lengths)
            spent = FALSE_REPORT * SPENT_BY / (latest * (latest + 1.0))
            if len(self._limits) >= MAX_LIMITS:
                self._limits.clear()
            self._limits[reported, turn] = long_run.thresholds(spent / max(means, 1))
        return self._limits[reported, turn]

    def _take(
        self, machine: MachineState, offsets: Values, ends: Int64[np.ndarray, " window"]
    ) -> tuple[int, bool]:
        """Take windows in: at most up to the first that exceeds a limit, or to new limits.

        Returns how many, and whether the last one exceeds a limit.
        """
        limits = self.limits(frozenset(machine.reported), machine.count)
        count = min(REFRESH - machine.count % REFRESH, len(ends))
        before = np.array(machine.offsets).reshape(len(machine.offsets), offsets.shape[1])
        series, exceeds = np.concatenate([before, offsets[:count]]), np.zeros(count, bool)
        for length, limit in zip(self.lengths, limits, strict=True):
            newest = series[-(count + length - 1) :].clip(-WEIGHT * limit, WEIGHT * limit)
            means = _means(newest, length)
            exceeds[count - len(means) :] |= (np.abs(means) > limit).any(1)
        count = int(exceeds.argmax()) + 1 if exceeds.any() else count
        series = series[: len(before) + count][-self.lengths[-1] :]
        machine.ends = (machine.ends + ends[:count].tolist())[-len(series) :]
        machine.offsets, machine.count = series.tolist(), machine.count + count
        return count, bool(exceeds.any())

    def _report(self, machine: MachineState, usual: Usual, group: str | None) -> Change | None:
        """The change that the newest windows show most clearly; then its channel is left out."""
        series = np.array(machine.offsets)
        limits = self.limits(frozenset(machine.reported), machine.count - 1)
        place = _clearest(usual, series, self.lengths, limits)
        if place is None:
            return None
        feature, own = usual.watched.features[place], series[:, place]
        began = machine.ends[_beginning(own)] - self.span
        what, kind = _named(usual, feature)
        change = Change(
            _moment(machine.ends[-1]), _moment(began), what, kind, bool(own[-1] > 0), group
        )
        machine.reported = sorted({*machine.reported, feature.what})
        machine.offsets = _carried(usual, self.usual(frozenset(machine.reported)), series).tolist()
        return change


def _offsets(usual: Usual, windows: Batch) -> Values:
    """The features of windows beyond the usual; 0 where a channel has no reading."""
    values = usual.watched.values(windows) - usual.long_run.center
    return np.nan_to_num(values, nan=0.0).clip(-FARTHEST, FARTHEST)


def _means(series: Values, length: int) -> Float[np.ndarray, "mean feature"]:
    """The means of so many windows behind each other; none where there are fewer."""
    if len(series) < length:
        return np.zeros((0, series.shape[1]))
    return np.lib.stride_tricks.sliding_window_view(series, length, axis=0).mean(-1)


def _clearest(
    usual: Usual, series: Values, lengths: tuple[int, ...], limits: np.ndarray
) -> int | None:
    """The feature to report; None where none exceeds its limit.

    What is seen without other channels comes first, and the code last. Beyond what the others
    tell, a channel that changed disturbs the rest of all that it is related to, and its own most.
    """
    features = usual.watched.features
    ratio = np.zeros(series.shape[1])
    for length, limit in zip(lengths, limits, strict=True):
        newest = series[-length:] if len(series) >= length else 0 * series[-1:]
        exceeds = np.abs(newest.clip(-WEIGHT * limit, WEIGHT * limit).mean(0)) > limit
        ratio = np.maximum(ratio, np.where(exceeds, np.abs(newest.mean(0)) / limit, 0.0))
    given = np.array([feature.given for feature in features], bool)
    code = np.array([feature.what == CODE for feature in features], bool)
    order = (~given & ~code, given, code)
    group = next((group for group in order if (ratio[group] > 0).any()), None)
    if group is None:
        return None
    place = int(np.where(group, ratio, 0.0).argmax())
    return place if not given[place] else _blamed(features, series[-lengths[0] :].mean(0), place)


def _blamed(features: list[Feature], means: np.ndarray, place: int) -> int:
    """The feature of the channel whose rest grew most, of the kind that shows it at `place`."""
    relation = [i for i, feature in enumerate(features) if feature.kind == "relation"]
    most = max(relation, key=lambda i: means[i])
    if means[most] <= 0 or features[place].what == features[most].what:
        return place
    kind = features[place].kind
    own = [i for i, f in enumerate(features) if f.given and f.place == features[most].place]
    return next(i for i in own if features[i].kind == kind)


def _beginning(offsets: Float[np.ndarray, " window"]) -> int:
    """The window from which on the newest ones differ most, by the likelihood of one step."""
    newest = np.cumsum(offsets[::-1])
    gain = np.square(newest) / np.arange(1, len(offsets) + 1)
    return len(offsets) - 1 - int(gain.argmax())


def _named(usual: Usual, feature: Feature) -> tuple[str, str]:
    """What a change is of, and its kind."""
    if feature.kind != "relation":
        return feature.what, feature.kind
    partner = usual.watched.partner(feature.place)
    if partner is None or feature.place not in usual.related:
        return feature.what, "spread"
    return f"{feature.what} and {partner}", "relation"


def _carried(before: Usual, after: Usual, series: Values) -> Float[np.ndarray, "window remaining"]:
    """The newest windows as they count without a channel; what rested on it begins anew."""
    places = {feature: i for i, feature in enumerate(before.watched.features)}
    carried = np.zeros((len(series), len(after.watched.features)))
    for i, feature in enumerate(after.watched.features):
        if not feature.given:
            carried[:, i] = series[:, places[feature]]
    return carried


def _moment(milliseconds: int) -> np.datetime64:
    return np.datetime64(int(milliseconds), "ms")
