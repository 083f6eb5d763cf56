"""The page of a denoiser: images before and after, and the net beside classical filters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.checks.denoising import NET
from keyhole.core.files import write_whole
from keyhole.core.progress import clock, stage, while_time_is_left
from keyhole.data.images import Image, Images
from keyhole.errors import DataError
from keyhole.modalities.tiles.source import NoiseScaler
from keyhole.modalities.tiles.tiling import middle_of
from keyhole.report.charts import learning_curve
from keyhole.report.facts import made_with, weight_count
from keyhole.report.headline import Fact, Headline
from keyhole.report.png import ends_of, png
from keyhole.report.trust import trust_of
from keyhole.report.words import count, fill, number, plain
from keyhole.tasks.denoiser import Denoiser, image_denoiser
from keyhole.tasks.image_denoiser import JudgedImage

SHOWN, SHOWN_SIDE = 6, 320  # images on a denoiser's page; pixels of a side, from the middle
REACH = 3.0  # standard deviations of noise that a residual shows as black and white
ENLARGED_SIDE = 64  # pixels: smaller images are shown larger, their pixels as squares


@dataclass(frozen=True)
class DenoisedExample:
    """An image on the page: its panels as data with captions, and sentences on it."""

    name: str
    panels: list[tuple[str, str]]  # URL and caption
    sentences: list[str]
    width: int
    note: str
    psnr: tuple[float, float] | None = None  # dB, before and after; None without a clean image


def write_denoising(
    path: str | os.PathLike[str], denoiser: Denoiser, images: Images, truth: Any = None
) -> None:
    """Atomically write the page; `truth` are the clean images, None for one that is not known.

    Raises: FileError, DataError.
    """
    write_whole(path, render_denoising(denoiser, images, truth))


def render_denoising(denoiser: Denoiser, images: Images, truth: Any = None) -> str:
    """The page on a fitted denoiser, with some of these images; without any if time is over."""
    stage("writing the page")
    clean = _clean_images(denoiser, truth, len(images))
    estimates = image_denoiser(denoiser).estimates(images.images)
    # Spread over all; none if time is over.
    chosen = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int)).tolist()
    chosen = chosen if clock().left() > 0 else []
    shown = [
        _shown(denoiser, image, estimates.unit(image), clean[i])
        for i, image in while_time_is_left((i, images[i]) for i in chosen)
    ]
    fitted, comparison = denoiser.model_, denoiser.comparison_
    parts = {
        part: getattr(fitted.parts, part) for part in ("net", "corruption", "head", "training")
    }
    return fill(
        "denoising.html.j2",
        {
            "headline": _headline(denoiser, shown, len(images)),
            "trust": trust_of(denoiser.verdict_, denoiser.findings_, subject="The denoiser"),
            "name": plain(images.name, 120),
            "facts": _facts(denoiser),
            "scores": _scores(denoiser),
            "held_out": comparison.held_out,
            "pixels": comparison.pixels,
            "shown": shown,
            "of": len(images),
            "hurried": len(shown) < min(len(images), SHOWN),
            "left_out": _left_out(images),
            "curve": learning_curve(fitted.history),
            "making": made_with(parts, fitted.fingerprint),
        },
    )


def _clean_images(denoiser: Denoiser, truth: Any, images: int) -> list[Image | None]:
    """The clean image of each, None where it is not known. Raises: DataError."""
    if truth is None:
        return [None] * images
    clean: list[Image | None]
    if isinstance(truth, list | tuple) and any(one is None for one in truth):
        clean = [None if one is None else denoiser.open([one]).images[0] for one in truth]
    else:
        clean = list(denoiser.open(truth).images)
    if len(clean) != images:
        raise DataError(f"{images} images and {len(clean)} true ones: give one each")
    return clean


def _headline(denoiser: Denoiser, shown: list[DenoisedExample], images: int) -> Headline:
    """Which method denoises, how good it is, and what to do next."""
    comparison = denoiser.comparison_
    title = f"{count(images, 'image')} denoised by the {_method(comparison.method)}"
    known = [example.psnr for example in shown if example.psnr is not None]
    facts = [
        Fact("error of the net", number(comparison.scores[NET], 4), "in noise variances"),
        Fact("error of the best filter", number(comparison.scores[comparison.rival], 4),
             comparison.rival),
    ]  # fmt: skip
    if known:
        before, after = np.mean(known, axis=0)
        title += f": PSNR {before:.2f} → {after:.2f} dB"
        note = f"{before:.2f} dB before; mean of {count(len(known), 'image')}"
        facts = [Fact("PSNR", f"{after:.2f} dB", f"{note} with a known clean image"), *facts]
    sentences = [
        f"On pixels that it was not trained on, the net makes {_compared(comparison)} errors than "
        f"the best classical filter ({comparison.rival}).",
        "This is not a medical device: a net may remove details that matter, so keep the "
        "originals.",
    ]
    steps = ["Look at the residuals: if you can see the image in one, detail was removed with the "
             "noise."]  # fmt: skip
    return Headline(title, sentences, facts, steps)


def _method(method: str) -> str:
    return method if method == NET else f"filter {method}"


def _compared(comparison: Any) -> str:
    return "smaller" if comparison.ahead > 0 else "larger"


def _left_out(images: Images) -> list[tuple[str, str]]:
    """The unreadable files with the reason, then the number of files that are not images."""
    bad = [(plain(file.name), plain(file.why, 200)) for file in images.skipped]
    passed_over = plain(images.passed_over_in_words(), 400) if images.ignored else ""
    return bad + ([("No images", passed_over)] if passed_over else [])


def _facts(denoiser: Denoiser) -> list[Fact]:
    fitted, run = denoiser.model_, denoiser.model_.history
    kind = fitted.parts.corruption.kind.replace("_", " ")  # pyright: ignore
    return [
        Fact("images", f"{fitted.rows:,}", f"{denoiser.comparison_.training_pixels:,} pixels"),
        Fact("corruption", kind, "of the training inputs"),
        Fact("training steps", f"{run.steps[-1] if run.steps else 0:,}", run.ended),
        Fact("weights", f"{weight_count(fitted):,}", "learned"),
    ]


def _scores(denoiser: Denoiser) -> list[tuple[str, str, str, float, bool]]:
    """The error of the net and each filter on held-out pixels, and its excess over the least."""
    comparison = denoiser.comparison_
    least = min(comparison.scores.values())
    most = max(comparison.scores.values()) - least or 1.0
    return [
        (
            name,
            number(score, 4),
            f"+{number(score - least, 4)}" if score > least else "least",
            100 * (score - least) / most,
            name == comparison.best,
        )
        for name, score in sorted(comparison.scores.items(), key=lambda pair: pair[1])
    ]


def _shown(
    denoiser: Denoiser, image: Image, scaler: NoiseScaler, clean: Image | None
) -> DenoisedExample:
    on_images = image_denoiser(denoiser)
    judgement = on_images.judged(image, scaler, clean)
    before, after = on_images.middle(image, scaler, SHOWN_SIDE)
    ends = ends_of(before)
    level = judgement.before.level(np.nan_to_num(after))
    residual = (before - after) / np.where(level > 0, level, 1.0)
    height, width = after.shape[:2]
    cut = f"the middle {height} x {width} of {image.height} x {image.width}"
    texts = _captions(judgement)
    panels = [
        (png(before, ends), f"before{texts[0]}"),
        (png(after, ends), f"after{texts[1]}"),
        (png(residual, (-REACH, REACH)), "residual: before minus after"),
    ]
    if clean is not None:
        truth = clean.window(*middle_of(image, SHOWN_SIDE))
        panels.append((png(truth, ends), "clean image"))
    return DenoisedExample(
        name=plain(image.name),
        panels=panels,
        sentences=[_sentence(plain(text, 300)) for text in judgement.sentences()],
        width=SHOWN_SIDE if max(height, width) > ENLARGED_SIDE else 192,
        note=cut if (height, width) != (image.height, image.width) else f"{height} x {width}",
        psnr=judgement.psnr,
    )


def _captions(judgement: JudgedImage) -> tuple[str, str]:
    """The PSNR before and after, where it is known."""
    if judgement.psnr is None:
        return "", ""
    before, after = judgement.psnr
    return f", PSNR {before:.2f} dB", f", PSNR {after:.2f} dB"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def in_words(denoiser: Denoiser) -> str:
    """The errors of the net and the filters, in a line."""
    scores, pixels = denoiser.comparison_.scores, count(denoiser.comparison_.pixels, "pixel")
    ordered = sorted(scores.items(), key=lambda pair: pair[1])
    texts = ", ".join(f"{name} {score:.4f}" for name, score in ordered)
    return f"error on {pixels} in noise variances, least first: {texts}"
