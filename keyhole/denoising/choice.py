"""Does the net denoise better than classical filters? Both predict the same noisy target.

The target's own noise adds the same constant to every error, so the smallest error against the
noisy target is the smallest against the clean image (Krull et al. 2019 for blind spots; Pang et
al. 2021 for recorrupted noise; Batson and Royer 2019 on choosing by it). Verdict and findings
follow from the comparison.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from keyhole.checks import Finding
from keyhole.core.layout import Layout
from keyhole.core.progress import clock
from keyhole.core.records import Batch
from keyhole.denoising.crops import ImageDataset, ScaledImage, stacked
from keyhole.modalities.tiles.noise import FILTERS, Noise
from keyhole.modalities.tiles.scaling import filter_of
from keyhole.modalities.tiles.tiling import Denoise, Filtered, whole
from keyhole.model.nets.unet import UNet
from keyhole.model.network import Network
from keyhole.training.corruptions import BlindSpot, Corruption, Pairs, Recorrupted
from keyhole.training.corruptions import Noise as Synthetic
from keyhole.training.feed import hash_of

NET = "net"
MOST_CELLS = 400_000  # pixels that filters are tried on: a few seconds each
# Questions asked of each: the noise of one is a good part of the score's; more where few pixels
# are asked for at a time.
ROUNDS, MOST_ROUNDS, ENOUGH_ASKED = 2, 12, 20_000
WINDOW = 256
SHORT_S, SHORT_WINDOW = 30.0, 96  # where a time budget leaves less than that for the comparison
LEAST_ASKED = 2_000  # held-out pixels; with fewer, all pixels are asked for


@dataclass(frozen=True)
class Choice:
    """Mean square errors on pixels that the net did not train on, in units of the noise variance.

    `scores` are against pixels with noise, a constant more than against clean ones; `score_std` is
    the standard error of each one's difference from the net's. `held_out` is False where images
    are so small that pixels of training had to tell.
    """

    scores: dict[str, float]
    standard_error: dict[str, float] = field(default_factory=dict)
    pixels: int = 0
    held_out: bool = True

    @property
    def best(self) -> str:
        """The one with the least error."""
        return min(self.scores, key=lambda name: self.scores[name])

    @property
    def ahead(self) -> float:
        """By how much the net's error is less than the best filter's; negative where it is not."""
        return self.scores[self.rival] - self.scores[NET]

    @property
    def rival(self) -> str:
        """The best classical filter."""
        return min((n for n in self.scores if n != NET), key=lambda name: self.scores[name])


def choose(
    shelf: ImageDataset, network: Network, net: UNet, corruption: Corruption, seed: int
) -> Choice:
    """The errors of the net and of every filter on the same windows and the same question.

    A net of blind spots is asked by recorrupted noise, as it answers in the end: from whole
    images, a little noisier.
    """
    blind = corruption.blind
    corruption = Recorrupted(filter=filter_of(shelf.noise)) if blind else corruption
    level = corruption.noisier if blind else 1.0
    rivals: dict[str, Denoise | Filtered] = {
        NET: Denoise(network, net, 1, blind=blind, level=level)
    }
    rivals |= {name: Filtered(f, corruption.noisier) for name, f in FILTERS.items()}
    gone = clock().passing()
    planes = _windows(shelf, seed, WINDOW if clock().left() > SHORT_S else SHORT_WINDOW)
    held_out = _pixels(planes, True) >= LEAST_ASKED
    errors: dict[str, list[float]] = {name: [] for name in rivals}
    counts: list[int] = []
    for round_ in range(MOST_ROUNDS):
        if round_ >= ROUNDS and sum(counts) >= ENOUGH_ASKED:
            break
        for plane in planes:
            if counts and gone() >= 1:
                break
            again = hash_of(seed, -3 - len(counts))
            given, target, asked = _corrupted(plane, corruption, held_out, again)
            counts.append(int(asked.sum()))
            for name, rival in rivals.items():
                found = whole(given[None], rival)[0]
                errors[name].append(float(np.square(found - target)[asked].sum()))
    total = max(sum(counts), 1)
    apart = {name: np.array(sums) - np.array(errors[NET]) for name, sums in errors.items()}
    return Choice(
        scores={name: float(np.sum(sums)) / total for name, sums in errors.items()},
        standard_error={
            n: float(np.sqrt(len(d)) * d.std()) / total for n, d in apart.items() if n != NET
        },
        pixels=_pixels(planes, held_out),
        held_out=held_out,
    )


def _windows(shelf: ImageDataset, seed: int, side: int) -> list[ScaledImage]:
    """Windows with held-out blocks, spread over the images, as many as there is time for."""
    rng, found, held = np.random.default_rng(seed), [], 0
    places = rng.permutation(len(shelf.images))
    each = max(MOST_CELLS // len(places), side**2 // 4)
    for place in places:
        image = shelf.images[int(place)]
        fits = max(image.height, image.width) <= side
        for _ in range(1 if fits else max(1, each // side**2)):
            y, x = (int(rng.integers(max(n - side, 0) + 1))
                    for n in (image.height, image.width))  # fmt: skip
            plane = shelf.plane(int(place), y, x, side)
            found.append(plane)
            held += plane.numbers.size
        if held >= MOST_CELLS:
            break
    return found


def _pixels(planes: list[ScaledImage], held_out: bool) -> int:
    """The pixels that may be asked for, of training or not."""
    return sum(int((~p.taught).sum()) if held_out else p.taught.size for p in planes)


def _corrupted(
    plane: ScaledImage, corruption: Corruption, held_out: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is given, asked for and scored of a window, each (height, width, channel)."""
    taught = ~plane.taught if held_out else np.ones_like(plane.taught)
    partner = plane.numbers if plane.partner is None else plane.partner
    batch: Batch = stacked([(plane.numbers, plane.observed, taught, partner)], taught=True)
    grid = plane.numbers.shape
    corrupted = corruption.corrupt(batch, Layout((), grid), torch.Generator().manual_seed(seed))  # pyright: ignore
    parts = (corrupted.input.numbers, corrupted.target.numbers, corrupted.loss_weight > 0)
    given, target, asked = (part.reshape(grid).numpy() for part in parts)
    return given, target, asked


FEW_CELLS = 20_000


def judge(
    choice: Choice,
    noise: Noise,
    corruption: Corruption,
    cells: int,
    fallback: bool,
    *,
    left_out: int = 0,
) -> tuple[list[Finding], str, str]:
    """Findings, a verdict, and who answers: the net, or the filter that made smaller errors.

    `left_out` images were not looked at for want of time.
    """
    rival, ahead = choice.rival, choice.ahead
    used = NET if ahead > 0 or not fallback else rival
    findings = _findings(choice, noise, corruption, cells, fallback, left_out)
    titles = "; ".join(finding.title for finding in findings)
    if ahead <= 0:
        return findings, f"look again: {titles}", used
    sure = ahead > choice.standard_error.get(rival, 0)
    clearly = "smaller errors than" if sure else "about the errors of"
    clean = isinstance(corruption, Pairs | Synthetic)
    said = f"learned: {clearly} {rival}, the best filter"
    said += "" if clean else ", without any clean image"
    return findings, f"{said} ({titles})" if titles else said, used


def _findings(
    choice: Choice, noise: Noise, corruption: Corruption, cells: int, fallback: bool, left_out: int
) -> list[Finding]:
    """What to know before the denoiser is used."""
    findings, rival = [], choice.rival
    if choice.ahead <= 0:
        then = "the filter answers" if fallback else "fallback is off, so the net answers"
        findings.append(Finding("KH012", "a filter does better", (
            f"{rival} has smaller errors on pixels that the net did not train on "
            f"({choice.scores[rival]:.4f} against {choice.scores[NET]:.4f} noise variances); "
            f"{then}. More images of the same kind, or more steps, help the net"
        )))  # fmt: skip
    if noise.correlated and isinstance(corruption, BlindSpot) and not corruption.reach:
        findings.append(Finding("KH013", "neighbours share noise", (
            "a blind spot sees the noise of a pixel in its neighbours; leave the corruption to "
            "the data, or hide neighbours too: BlindSpot(reach=[1, 1])"
        )))  # fmt: skip
    if cells < FEW_CELLS or not choice.held_out:
        findings.append(Finding("KH014", "few pixels", (
            f"{cells:,} pixels are little to learn from"
            + ("" if choice.held_out else ", and pixels of training had to tell who does better")
            + "; more images of the same kind help"
        )))  # fmt: skip
    if left_out:
        findings.append(Finding("KH016", "images were left out", (
            f"the time budget was too short to look at {left_out:,} more images, so nothing was "
            "learned from them: give more time, or fewer or smaller images"
        )))  # fmt: skip
    return findings
