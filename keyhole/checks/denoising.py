"""KH012 to KH014 and KH016: does the net denoise better than classical filters?

Both predict the same noisy target. The target's own noise adds the same constant to every error,
so the smallest error against the noisy target is the smallest against the clean image (Krull et
al. 2019 for blind spots; Pang et al. 2021 for recorrupted noise; Batson and Royer 2019 on choosing
by it).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from keyhole.checks.evidence import Finding, TrainInfo, check, gather
from keyhole.core.environment import hash_of
from keyhole.core.layout import Layout
from keyhole.core.progress import clock, stage
from keyhole.errors import BundleError
from keyhole.modalities.tiles.crops import ImageDataset, ScaledImage, stacked
from keyhole.modalities.tiles.filters import FILTERS
from keyhole.modalities.tiles.noise import filter_of
from keyhole.modalities.tiles.tiles import PixelsToJudge
from keyhole.modalities.tiles.tiling import Denoise, Filtered, whole
from keyhole.model.network import Network
from keyhole.training.corruptions import Recorrupted

NET = "net"
MAX_PIXELS = 400_000  # that filters are tried on: a few seconds each
# Each is compared several times with fresh noise, whose error is a good part of the score; more
# often if a corruption scores few pixels at a time.
MIN_ROUNDS, MAX_ROUNDS, ENOUGH_SCORED = 2, 12, 20_000
WINDOW = 256
SHORT_S, SHORT_WINDOW = 30.0, 96  # if a time budget leaves less for the comparison
MIN_HELD_OUT = 2_000  # pixels; with fewer, all pixels are compared
MIN_PIXELS = 20_000  # to train on; with fewer a warning says so


@dataclass(frozen=True)
class DenoisingEvidence:
    """Mean square errors of the net and of filters on pixels that the net did not train on.

    `scores` are in units of the noise variance, against noisy pixels: a constant more than against
    clean ones. `standard_error` is that of each one's difference from the net's. `held_out` is
    False if images are so small that training pixels were compared. `left_out` images were not
    looked at for want of time.
    """

    scores: dict[str, float]
    standard_error: dict[str, float]
    pixels: int
    held_out: bool
    training_pixels: int
    noise_is_correlated: bool
    corruption: str
    clean: str  # the images without noise: "images", "partners", or neither
    hides_neighbours: bool
    fallback: bool
    left_out: int

    @property
    def best(self) -> str:
        """The method with the smallest error."""
        return min(self.scores, key=lambda name: self.scores[name])

    @property
    def rival(self) -> str:
        """The best classical filter."""
        return min((n for n in self.scores if n != NET), key=lambda name: self.scores[name])

    @property
    def ahead(self) -> float:
        """How much smaller the net's error is than the best filter's; negative if it is larger."""
        return self.scores[self.rival] - self.scores[NET]

    @property
    def method(self) -> str:
        """The method that denoises: the net, or the filter that made smaller errors."""
        return NET if self.ahead > 0 or not self.fallback else self.rival

    def check(self) -> None:
        """Raises: BundleError for scores that no fit leaves."""
        names = set(self.scores)
        if not {NET} < names or not names <= {NET, *FILTERS}:
            raise BundleError("the manifest cannot be used: scores of the net and the filters")

    def verdict(self, findings: list[Finding]) -> str:
        """One line on how far to trust the denoiser."""
        titles = "; ".join(finding.title for finding in findings)
        if self.ahead <= 0:
            return f"look again: {titles}"
        sure = self.ahead > self.standard_error.get(self.rival, 0)
        clearly = "smaller errors than" if sure else "about the errors of"
        text = f"learned: {clearly} {self.rival}, the best filter"
        text += "" if self.corruption in {"pairs", "noise"} else ", without any clean image"
        return f"{text} ({titles})" if titles else text

    def to_json(self) -> dict[str, object]:
        """The figures that a manifest keeps."""
        return asdict(self)


@gather.register
def _(
    heldout: PixelsToJudge, modality: Any, network: Network, history: Any, info: TrainInfo
) -> DenoisingEvidence:
    """The evidence from pixels that the network did not train on."""
    stage("comparing the network with classical filters")
    dataset, parts = heldout.dataset, heldout.parts
    return DenoisingEvidence(
        **compare(dataset, network, parts.net, parts.corruption, heldout.seed),
        training_pixels=dataset.pixels,
        noise_is_correlated=dataset.noise.correlated,
        corruption=parts.corruption.kind,
        clean=dataset.clean,
        hides_neighbours=bool(getattr(parts.corruption, "reach", None)),
        fallback=parts.schema.fallback,
        left_out=heldout.left_out,
    )


def compare(
    dataset: ImageDataset, network: Network, net: Any, corruption: Any, seed: int
) -> dict[str, Any]:
    """The errors of the net and of every filter on the same windows and the same targets.

    A net of blind spots is compared by recorrupted noise, as it answers in the end: from whole
    images, a little noisier.
    """
    blind = corruption.blind
    corruption = Recorrupted(filter=filter_of(dataset.noise)) if blind else corruption
    level = corruption.noisier if blind else 1.0
    methods: dict[str, Any] = {NET: Denoise(network, net, 1, blind=blind, level=level)}
    methods |= {name: Filtered(f, corruption.noisier) for name, f in FILTERS.items()}
    time_gone = clock().passing()
    images = _windows(dataset, seed, WINDOW if clock().left() > SHORT_S else SHORT_WINDOW)
    held_out = _pixels(images, held_out=True) >= MIN_HELD_OUT
    errors: dict[str, list[float]] = {name: [] for name in methods}
    counts: list[int] = []
    for round_ in range(MAX_ROUNDS):
        if round_ >= MIN_ROUNDS and sum(counts) >= ENOUGH_SCORED:
            break
        for image in images:
            if counts and time_gone() >= 1:
                break
            noise_seed = hash_of(seed, -3 - len(counts))
            given, target, scored = _corrupted(image, corruption, held_out, noise_seed)
            counts.append(int(scored.sum()))
            for name, method in methods.items():
                denoised = whole(given[None], method)[0]
                errors[name].append(float(np.square(denoised - target)[scored].sum()))
    return _summary(errors, counts) | {"pixels": _pixels(images, held_out), "held_out": held_out}


def _summary(errors: dict[str, list[float]], counts: list[int]) -> dict[str, Any]:
    """The mean error of each method, and the standard error of its difference from the net's."""
    total, scores, standard_error = max(sum(counts), 1), {}, {}
    for name, sums in errors.items():
        scores[name] = float(np.sum(sums)) / total
        if name != NET:
            spread = (np.array(sums) - np.array(errors[NET])).std()
            standard_error[name] = float(np.sqrt(len(sums)) * spread) / total
    return {"scores": scores, "standard_error": standard_error}


def _windows(dataset: ImageDataset, seed: int, side: int) -> list[ScaledImage]:
    """Windows with held-out blocks, spread over the images."""
    rng, windows, pixels = np.random.default_rng(seed), [], 0
    order = rng.permutation(len(dataset.images))
    each = max(MAX_PIXELS // len(order), side**2 // 4)
    for index in order:
        image = dataset.images[int(index)]
        fits = max(image.height, image.width) <= side
        for _ in range(1 if fits else max(1, each // side**2)):
            y, x = (int(rng.integers(max(n - side, 0) + 1)) for n in (image.height, image.width))
            windows.append(dataset.window(int(index), y, x, side))
            pixels += windows[-1].numbers.size
        if pixels >= MAX_PIXELS:
            break
    return windows


def _pixels(images: list[ScaledImage], held_out: bool) -> int:
    """The number of held-out pixels, or of all."""
    return sum(int((~p.train_mask).sum()) if held_out else p.train_mask.size for p in images)


def _corrupted(
    image: ScaledImage, corruption: Any, held_out: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, target and which pixels are scored, each (height, width, channel)."""
    mask = ~image.train_mask if held_out else np.ones_like(image.train_mask)
    batch = stacked([(image.numbers, image.observed, mask, image.target)], training=True)
    grid = image.numbers.shape
    layout = Layout((), (grid[0], grid[1], grid[2]))
    corrupted = corruption.corrupt(batch, layout, torch.Generator().manual_seed(seed))
    parts = (corrupted.input.numbers, corrupted.target.numbers, corrupted.loss_weight > 0)
    given, target, scored = (part.reshape(grid).numpy() for part in parts)
    return given, target, scored


@check("KH012", "a filter does better", DenoisingEvidence)
def worse_than_filter(evidence: DenoisingEvidence) -> str | None:
    """A classical filter needs no training."""
    if evidence.ahead > 0:
        return None
    rival = evidence.rival
    then = "the filter answers" if evidence.fallback else "fallback is off, so the net answers"
    return (
        f"{rival} has smaller errors on pixels that the net did not train on "
        f"({evidence.scores[rival]:.4f} against {evidence.scores[NET]:.4f} noise variances); "
        f"{then}. Give more images of the same kind, or more steps"
    )


@check("KH013", "neighbours share noise", DenoisingEvidence)
def neighbours_share_noise(evidence: DenoisingEvidence) -> str | None:
    """A blind spot of one pixel needs independent noise."""
    blind = evidence.corruption == "blind_spot" and not evidence.hides_neighbours
    if not blind or not evidence.noise_is_correlated:
        return None
    return (
        "the net can see the noise of a hidden pixel in its neighbours: leave corruption out, or "
        "hide neighbours too: BlindSpot(reach=[1, 1])"
    )


@check("KH014", "few pixels", DenoisingEvidence)
def few_pixels(evidence: DenoisingEvidence) -> str | None:
    """From a small image a net learns that image."""
    if evidence.training_pixels >= MIN_PIXELS and evidence.held_out:
        return None
    compared = "" if evidence.held_out else ", and the comparison had to use training pixels"
    return (
        f"{evidence.training_pixels:,} pixels are few to learn from{compared}: give more images "
        "of the same kind"
    )


@check("KH016", "images were left out", DenoisingEvidence)
def images_left_out(evidence: DenoisingEvidence) -> str | None:
    """A time budget may be too short to look at all images."""
    if not evidence.left_out:
        return None
    return (
        f"the time budget was too short to read {evidence.left_out:,} more images, so nothing "
        "was learned from them: give more time, or fewer or smaller images"
    )
