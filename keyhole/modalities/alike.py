"""Which columns of a table are of one measure, and so share a scale."""

from keyhole.columns import Aside, Column, Number
from keyhole.columns.alike import look_alike, measure
from keyhole.modalities.hints import Hints
from keyhole.modalities.survey import Survey


def by_one_measure(
    columns: list[Column], survey: Survey, hints: Hints, alike: bool
) -> list[Column]:
    """The columns, numbers by one scale where they are, or look, of one measure."""
    held = [survey.profiles[c.name] for c in columns if not isinstance(c, Aside)]
    wanted = hints.kinds == "alike" or (alike and look_alike(held))
    scale = measure(held) if wanted else None
    if scale is None:
        return columns
    numeric = {p.name for p in held if p.numeric and p.name not in (hints.kind_of)}
    return [
        Number.of_measure(survey.profiles[c.name], scale) if c.name in numeric else c
        for c in columns
    ]
