"""The page on a denoiser: before, after and what was taken away, side by side."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.core.files import write_whole
from keyhole.core.progress import clock, stage, while_time_is_left
from keyhole.errors import DataError
from keyhole.report import figures
from keyhole.report.anomaly_maps import ends_of, png
from keyhole.report.facts import Fact, made_with
from keyhole.report.page import fill
from keyhole.report.words import count, number, plain
from keyhole.tasks.denoise.judge import judged

if TYPE_CHECKING:
    from keyhole.data.images import Picture, Pictures
    from keyhole.modalities.tiles.scaling import Unit
    from keyhole.tasks.denoise.denoiser import Denoiser


MOST_SHOWN = 6
SIDE = 320  # pixels of a picture that are shown
REACH = 3.0  # standard deviations of noise from the middle grey of a residual to its ends
WIDEST_SMALL = 64  # smaller pictures are shown larger, their pixels as squares


@dataclass(frozen=True)
class Shown:
    """A picture on the page: three images as data, and what can be said of it."""

    name: str
    before: str
    after: str
    residual: str
    said: list[str]
    width: int
    note: str


def write_denoising(
    path: str | os.PathLike[str], denoiser: Denoiser, pictures: Pictures, truth: Any = None
) -> None:
    """Write the page, whole or not at all; `truth` are clean pictures where there are any.

    Raises: FileError, DataError.
    """
    write_whole(path, render(denoiser, pictures, truth))


def render(denoiser: Denoiser, pictures: Pictures, truth: Any = None) -> str:
    """The page on a fitted denoiser, with some of these pictures; none where time is over."""
    stage("writing the page")
    clean = None if truth is None else denoiser.open(truth).pictures
    if clean is not None and len(clean) != len(pictures):
        raise DataError(f"{len(pictures)} pictures and {len(clean)} true ones: give one each")
    measured = denoiser.measured(pictures.pictures)
    shown = [
        _shown(denoiser, p, measured.unit(p), None if clean is None else clean[i])
        for i, p in while_time_is_left((i, pictures[i]) for i in _places(len(pictures)))
    ]
    fitted = denoiser._fitted
    head, colon, rest = denoiser.verdict_.partition(": ")
    return fill(
        "denoising.html.j2",
        {
            "verdict": {
                "good": fitted.choice.ahead > 0,
                "head": head[:1].upper() + head[1:],
                "rest": rest if colon else "",
                "findings": denoiser.findings_,
            },
            "name": plain(pictures.name, 120),
            "noise": str(fitted.noise.describe(None)),
            "facts": _facts(denoiser),
            "scores": _scores(denoiser),
            "held_out": fitted.choice.held_out,
            "pixels": fitted.choice.pixels,
            "shown": shown,
            "of": len(pictures),
            "hurried": len(shown) < min(len(pictures), MOST_SHOWN),
            "left_out": _left_out(pictures),
            "curve": figures.learning_curve(fitted.history),
            "making": made_with(
                {"net": denoiser.parts()["net"], "corruption": fitted.corruption,
                 "head": denoiser.parts()["head"], "plan": fitted.plan},
                fitted.fingerprint,
            ),
        },
    )  # fmt: skip


def _left_out(pictures: Pictures) -> list[tuple[str, str]]:
    """Which bad files were left out, and why; then how many were no pictures."""
    bad = [(plain(file.name), plain(file.why, 200)) for file in pictures.skipped]
    passed_over = plain(pictures.passed_over_in_words(), 400) if pictures.ignored else ""
    return bad + ([("No pictures", passed_over)] if passed_over else [])


def _places(count: int) -> list[int]:
    """Which of so many pictures are shown: some spread over all, none where time is over."""
    places = np.unique(np.linspace(0, count - 1, MOST_SHOWN).astype(int))
    return places.tolist() if clock().left() > 0 else []


def _facts(denoiser: Denoiser) -> list[Fact]:
    fitted = denoiser._fitted
    weights = sum(weight.numel() for weight in denoiser.network_.parameters())
    steps = fitted.history.steps[-1] if fitted.history.steps else 0
    return [
        Fact("pictures", f"{fitted.pictures:,}", f"{fitted.pixels:,} pixels"),
        Fact("question", fitted.corruption.kind.replace("_", " "), "what the net was asked"),
        Fact("steps", f"{steps:,}", fitted.history.ended),
        Fact("weights", f"{weights:,}", "learnt"),
    ]


def _scores(denoiser: Denoiser) -> list[tuple[str, str, str, float, bool]]:
    """Each rival's error on held-out pixels, and how much more that is than the best one's."""
    choice = denoiser.choice_
    least = min(choice.scores.values())
    most = max(choice.scores.values()) - least or 1.0
    return [
        (
            name,
            number(score, 4),
            f"+{number(score - least, 4)}" if score > least else "least",
            100 * (score - least) / most,
            name == choice.best,
        )
        for name, score in sorted(choice.scores.items(), key=lambda pair: pair[1])
    ]


def _shown(denoiser: Denoiser, picture: Picture, unit: Unit, clean: Picture | None) -> Shown:
    found = judged(denoiser, picture, unit, clean)
    before, after = denoiser.middle(picture, unit, SIDE)
    ends = ends_of(before)
    level = found.before.level(np.nan_to_num(after))
    residual = (before - after) / np.where(level > 0, level, 1.0)
    high, wide = after.shape[:2]
    cut = f"the middle {high} x {wide} of {picture.height} x {picture.width}"
    return Shown(
        name=plain(picture.name),
        before=png(before, ends),
        after=png(after, ends),
        residual=png(residual, (-REACH, REACH)),
        said=[plain(text, 300) for text in found.sentences()],
        width=SIDE if max(high, wide) > WIDEST_SMALL else 192,
        note=cut if (high, wide) != (picture.height, picture.width) else f"{high} x {wide}",
    )


def in_words(denoiser: Denoiser) -> str:
    """How the net and the filters compare, in a line."""
    choice = denoiser.choice_
    errors = dict(sorted(choice.scores.items(), key=lambda pair: pair[1]))
    said = ", ".join(f"{name} {score:.4f}" for name, score in errors.items())
    return f"error on {count(choice.pixels, 'pixel')} in noise variances, least first: {said}"
