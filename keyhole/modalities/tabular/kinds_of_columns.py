"""Which kind each column of a table has: what the schema says, else what its values look like."""

from __future__ import annotations

from typing import Any

from keyhole.core.parts import kinds
from keyhole.data import levels
from keyhole.data.vectors import vectors_among
from keyhole.errors import DataError
from keyhole.modalities.profile import Profile
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.columns import Column, Ignored, Number
from keyhole.modalities.tabular.guess import Guess, guess, look_alike, measure


def columns_of(
    profiles: dict[str, Profile], schema: Schema, group: str | None, alike: bool
) -> tuple[list[Column], dict[str, str]]:
    """The columns of a table, and why each has its kind.

    Numbers share a scale if they are one measure, as those of a list are, or if they look so and
    may be `alike`.
    """
    columns: dict[str, Any] = {}
    reasons = {}
    vectors = vectors_among(profiles)
    elements = {name: lists for lists, names in vectors.items() for name in names}
    for name, p in profiles.items():
        decision = schema.decide(p, group)
        if decision is None and name in elements and p.numeric:
            decision = Guess("number", f"a number of the list {elements[name]!r}")
        decision = decision or guess(p)
        if decision.kind == "ignored":
            column = Ignored(name, reason=decision.reason)
        elif p.infinite:
            raise DataError(levels.infinity(name, p.infinite))
        else:
            column = kinds("column")[decision.kind].learn(p)  # pyright: ignore
        columns[name] = column
        reasons[name] = "; ".join(filter(None, [decision.reason, column.remark, decision.caution]))
    learned = [profiles[name] for name, c in columns.items() if not isinstance(c, Ignored)]
    share_scale = schema.kinds == "alike" or (alike and look_alike(learned))
    measures = [learned] if share_scale else [
        [p for p in learned if elements.get(p.name) == lists] for lists in vectors
    ]  # fmt: skip
    for alike_profiles in measures:
        scale = measure(alike_profiles)
        for p in alike_profiles:
            if scale is not None and p.numeric and p.name not in schema.kind_of:
                columns[p.name] = Number.of_measure(p, scale)
    return list(columns.values()), reasons
