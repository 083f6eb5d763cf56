"""The page on a denoiser: images before and after, and what was removed."""

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

if TYPE_CHECKING:
    from keyhole.data.images import Image, Images
    from keyhole.modalities.tiles.scaling import NoiseScaler
    from keyhole.tasks.denoiser import Denoiser


MOST_SHOWN = 6
SIDE = 320  # pixels of an image that are shown
REACH = 3.0  # standard deviations of noise that a residual shows as black and white
WIDEST_SMALL = 64  # smaller images are shown larger, their pixels as squares


@dataclass(frozen=True)
class DenoisedExample:
    """An image on the page: before, after and residual as data, and sentences on it."""

    name: str
    before: str
    after: str
    residual: str
    sentences: list[str]
    width: int
    note: str


def write_denoising(
    path: str | os.PathLike[str], denoiser: Denoiser, images: Images, truth: Any = None
) -> None:
    """Atomically write the page; `truth` are the clean images, if known.

    Raises: FileError, DataError.
    """
    write_whole(path, render(denoiser, images, truth))


def render(denoiser: Denoiser, images: Images, truth: Any = None) -> str:
    """The page on a fitted denoiser, with some of these images; without any if time is over."""
    stage("writing the page")
    clean = None if truth is None else denoiser.open(truth).images
    if clean is not None and len(clean) != len(images):
        raise DataError(f"{len(images)} images and {len(clean)} true ones: give one each")
    measured = denoiser.image_denoiser.estimates(images.images)
    shown = [
        _shown(denoiser, p, measured.unit(p), None if clean is None else clean[i])
        for i, p in while_time_is_left((i, images[i]) for i in _indices(len(images)))
    ]
    fitted, comparison = denoiser.model_, denoiser.comparison_
    head, colon, rest = denoiser.verdict_.partition(": ")
    return fill(
        "denoising.html.j2",
        {
            "verdict": {
                "good": comparison.ahead > 0,
                "head": head[:1].upper() + head[1:],
                "rest": rest if colon else "",
                "findings": denoiser.findings_,
            },
            "name": plain(images.name, 120),
            "noise": str(denoiser.noise_.describe(None)),
            "facts": _facts(denoiser),
            "scores": _scores(denoiser),
            "held_out": comparison.held_out,
            "pixels": comparison.pixels,
            "shown": shown,
            "of": len(images),
            "hurried": len(shown) < min(len(images), MOST_SHOWN),
            "left_out": _left_out(images),
            "curve": figures.learning_curve(fitted.history),
            "making": made_with(
                {name: getattr(fitted.parts, name)
                 for name in ("net", "corruption", "head", "training")},
                fitted.fingerprint,
            ),
        },
    )  # fmt: skip


def _left_out(images: Images) -> list[tuple[str, str]]:
    """The unreadable files with the reason, then the number of files that are not images."""
    bad = [(plain(file.name), plain(file.why, 200)) for file in images.skipped]
    passed_over = plain(images.passed_over_in_words(), 400) if images.ignored else ""
    return bad + ([("No images", passed_over)] if passed_over else [])


def _indices(count: int) -> list[int]:
    """The indices of the images shown, spread over all; none if time is over."""
    indices = np.unique(np.linspace(0, count - 1, MOST_SHOWN).astype(int))
    return indices.tolist() if clock().left() > 0 else []


def _facts(denoiser: Denoiser) -> list[Fact]:
    fitted = denoiser.model_
    weights = sum(weight.numel() for weight in denoiser.model_.network.parameters())
    steps = fitted.history.steps[-1] if fitted.history.steps else 0
    return [
        Fact("images", f"{fitted.rows:,}", f"{denoiser.comparison_.training_pixels:,} pixels"),
        Fact(
            "corruption",
            fitted.parts.corruption.kind.replace("_", " "),
            "of the training inputs",
        ),
        Fact("steps", f"{steps:,}", fitted.history.ended),
        Fact("weights", f"{weights:,}", "learned"),
    ]


def _scores(denoiser: Denoiser) -> list[tuple[str, str, str, float, bool]]:
    """The error of the net and each filter on held-out pixels, and its excess over the least."""
    choice = denoiser.comparison_
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


def _shown(
    denoiser: Denoiser, image: Image, unit: NoiseScaler, clean: Image | None
) -> DenoisedExample:
    judgement = denoiser.image_denoiser.judged(image, unit, clean)
    before, after = denoiser.image_denoiser.middle(image, unit, SIDE)
    ends = ends_of(before)
    level = judgement.before.level(np.nan_to_num(after))
    residual = (before - after) / np.where(level > 0, level, 1.0)
    high, wide = after.shape[:2]
    cut = f"the middle {high} x {wide} of {image.height} x {image.width}"
    return DenoisedExample(
        name=plain(image.name),
        before=png(before, ends),
        after=png(after, ends),
        residual=png(residual, (-REACH, REACH)),
        sentences=[plain(text, 300) for text in judgement.sentences()],
        width=SIDE if max(high, wide) > WIDEST_SMALL else 192,
        note=cut if (high, wide) != (image.height, image.width) else f"{high} x {wide}",
    )


def in_words(denoiser: Denoiser) -> str:
    """The errors of the net and the filters, in a line."""
    choice = denoiser.comparison_
    errors = dict(sorted(choice.scores.items(), key=lambda pair: pair[1]))
    texts = ", ".join(f"{name} {score:.4f}" for name, score in errors.items())
    return f"error on {count(choice.pixels, 'pixel')} in noise variances, least first: {texts}"
