"""How a denoiser is fitted, step by step: measure the noise, cut crops, train, compare."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keyhole.checks import Finding
from keyhole.core.environment import threads_for
from keyhole.core.layout import Shape, Slot, pixels
from keyhole.core.progress import EvaluateCallback, clock, stage, wall_clock, while_time_is_left
from keyhole.data.images import Image, Images
from keyhole.denoising.choice import NET, Choice, choose, judge
from keyhole.denoising.crops import Crops, DeadLeaves, ImageDataset
from keyhole.errors import DataError, SettingError
from keyhole.modalities.tiles.noise import FILTERS, Noise, pooled
from keyhole.modalities.tiles.noise.estimate import estimate
from keyhole.modalities.tiles.scaling import NoiseEstimates, NoiseScaler, filter_of, windows_of
from keyhole.modalities.tiles.tiling import Denoise, Filtered
from keyhole.model.bottlenecks.deterministic import Identity
from keyhole.model.nets.unet import UNet
from keyhole.model.network import Network
from keyhole.training import History, TrainingConfig
from keyhole.training.checkpoint import Checkpoint
from keyhole.training.corruptions import Corruption, Pairs, Recorrupted
from keyhole.training.corruptions import Noise as Synthetic
from keyhole.training.loop import Run, train

SIDE = 64  # of a training crop, where images are as large
STEP_PIXELS = 1 << 16  # pixels of a training step
MOST_STEPS, LEAST_STEPS, STEPS_A_CROP = 2_000, 600, 20
LEARNING_RATE = 2e-3
GRADIENT_NORM = 0.1  # per pixel: noise in what is asked for makes gradients jump
ENOUGH_CELLS = 500_000  # pixels of real images that need no synthetic ones beside them
MOST_LEAFY = 0.5  # share of crops that are synthetic, where real images are few
CHOICE_SHARE = 0.3  # of a time budget, for the comparison with classical filters
AFTER_NOISE_SHARE = 0.6  # of it, for all that follows measuring the noise
MANY_CELLS, HELD_OUT, HELD_OUT_OF_FEW = 1_000_000, 0.05, 0.1


@dataclass(frozen=True)
class Callbacks:
    """What a caller of fit follows it by; `on_data_ready` is told the images and their noise."""

    checkpoint: str | None
    on_evaluate: EvaluateCallback
    on_data_ready: Callable[[Sequence[Image], Noise], None] | None


@dataclass(frozen=True)
class DenoisingModel:
    """What a denoiser has learned, and how far to trust it.

    `noise` is that of all training images together; `corruption` and `training` are those that
    were used; `used` is "net", or the classical filter that did better.
    """

    network: Network
    net: UNet
    corruption: Corruption
    training: TrainingConfig
    noise: Noise
    clean: str  # "partners" where those of training had no noise
    choice: Choice
    history: History
    images: int
    pixels: int
    side: int
    channels: int
    fingerprint: str
    findings: list[Finding]
    verdict: str
    used: str

    def answer(self, *, folds: int = 8) -> Denoise | Filtered:
        """What denoises images in units of their noise."""
        if self.used == NET:
            return Denoise(self.network, self.net, folds, blind=self.corruption.blind)
        return Filtered(FILTERS[self.used])


@wall_clock()
@threads_for(0)  # a training step, or a tile, says itself how many it needs
def learn(
    images: Images, partners: Images | None, parts: dict[str, Any], seed: int, callbacks: Callbacks
) -> DenoisingModel:
    """The denoiser of these images; `partners` are clean or second ones of each.

    Raises: DataError, SettingError, FitError.
    """
    clock().allow(parts["training"].time_budget_s)
    held, twins = _checked(images, partners)
    check_question(parts["corruption"], parts["noise"], twins is not None)
    with wall_clock(reserved=AFTER_NOISE_SHARE):
        noisy, units, left_out = _units(images.name, held, parts["noise"], seed)
    held = [held[i] for i in noisy]
    twins = None if twins is None else [twins[i] for i in noisy]
    noise = pooled([unit.noise for unit in units], [float(p.height * p.width) for p in held])
    if callbacks.on_data_ready is not None:
        callbacks.on_data_ready(held, noise)
    corruption = question_for(parts["corruption"], noise, twins is not None)
    cells = sum(p.height * p.width * p.channels for p in held)
    share = HELD_OUT if cells > MANY_CELLS else HELD_OUT_OF_FEW
    shelf = ImageDataset(held, units, twins, share, seed, _clean(corruption, twins), noise)
    stage("cutting images into crops")
    side = _side(held, parts["net"].step)
    crops = Crops(shelf, side, seed, *_leaves(shelf, corruption, noise, seed))
    training = settled(parts["training"], crops, held[0].channels)
    network = make(parts["net"], parts["head"], crops.side, held[0].channels, seed)
    mark = _fingerprint(held, shelf, parts, seed)
    checkpoint = Checkpoint(callbacks.checkpoint, mark, seed) if callbacks.checkpoint else None
    feed: Any = crops
    run = Run(network, feed, crops.asked(), corruption, training, seed, callbacks.on_evaluate,
              checkpoint, gradient_norm=GRADIENT_NORM)  # fmt: skip
    stage("training")
    with wall_clock(reserved=CHOICE_SHARE):
        trained = train(run)
    stage("comparing the net with classical filters")
    choice = choose(shelf, trained.network, parts["net"], corruption, seed)
    findings, verdict, used = judge(
        choice, noise, corruption, cells, parts["fallback"], left_out=left_out
    )
    return DenoisingModel(
        trained.network, parts["net"], corruption, training, noise, shelf.clean, choice,
        trained.history, len(held), cells, crops.side, held[0].channels, mark, findings, verdict,
        used,
    )  # fmt: skip


def _units(
    name: str, held: list[Image], told: Noise | None, seed: int
) -> tuple[list[int], list[NoiseScaler], int]:
    """The places of the images that have noise, the units of it, and how many were left out.

    A time budget may leave images out, whichever come late in an order that is drawn.
    Raises: DataError where none has any.
    """
    stage("measuring the noise")
    measured = NoiseEstimates(held, told)
    order = np.random.default_rng(seed).permutation(len(held)).tolist()
    units = {i: measured.unit(held[i]) for i in while_time_is_left(order)}
    left_out = len(held) - len(units)
    units = {i: units[i] for i in sorted(units) if units[i].noise.kind != "none"}
    if not units:
        raise DataError(
            f"{name}: no noise was found in any of {len(held) - left_out} image(s), so there is "
            "nothing to take away; give noise=... where you know better"
        )
    return list(units), list(units.values()), left_out


def make(net: Any, head: Any, side: int, channels: int, seed: int = 0) -> Network:
    """A network for crops of this size; what it learns serves images of any."""
    layout = pixels(Slot("pixel", "number", "student_t"), (side, side, channels), side)
    return Network(net, Identity(), head, Shape(layout), seed=seed)


def check_question(told: Corruption | None, level: Noise | None, paired: bool) -> None:
    """Raises: SettingError for what does not go together."""
    if told is None:
        return
    if isinstance(told, Pairs) != paired:
        said = "there are no second images" if not paired else f"{told!r} takes no second ones"
        raise SettingError(f"pairs are asked by Pairs() and fit(noisy, clean): {said}")
    if isinstance(told, Synthetic) and level is None:
        raise SettingError(
            "noise on clean images must be told, since it cannot be found in them: give "
            "noise=25.0, the standard deviation in the images' own units"
        )
    if isinstance(told, Synthetic) and told.scale != 1:
        raise SettingError(
            f"{told!r}: images come in units of their noise; give Noise(1.0) and noise=..."
        )
    told.check()


def question_for(told: Corruption | None, noise: Noise, paired: bool) -> Corruption:
    """What the net is asked: what was told, else what the images and their noise allow."""
    if told is None:
        return Pairs() if paired else Recorrupted(filter=filter_of(noise))
    if isinstance(told, Recorrupted) and told.filter is None:
        return Recorrupted(told.a, filter=filter_of(noise))
    return told


def _clean(corruption: Corruption, twins: list[Image] | None) -> str:
    """Which images have no noise: their units are those of the mean of noisy ones."""
    if isinstance(corruption, Synthetic):
        return "images"
    if twins is None:
        return ""
    some = [windows_of(twins[int(i)]) for i in np.linspace(0, len(twins) - 1, 3).astype(int)]
    return "partners" if all(estimate(one).kind == "none" for one in some) else ""


def _leaves(
    shelf: ImageDataset, corruption: Corruption, noise: Noise, seed: int
) -> tuple[DeadLeaves, float]:
    """Synthetic images for where real ones are few, and the share of crops that they are."""
    few = 1 - shelf.cells / ENOUGH_CELLS
    planes = [shelf.plane(int(i), 0, 0, 512) for i in range(min(len(shelf.images), 8))]
    deviation = float(np.mean([plane.numbers.std() for plane in planes]))
    clean = isinstance(corruption, Synthetic)
    made = DeadLeaves(planes[0].numbers.shape[2], deviation, filter_of(noise), clean, seed)
    return made, MOST_LEAFY * float(np.clip(few, 0, 1))


def settled(training: TrainingConfig, crops: Crops, channels: int) -> TrainingConfig:
    """The plan with what it leaves open; written down, so that a run is resumed as it began."""
    found = TrainingConfig(**training.get_params())
    found.check()
    if found.steps is None and found.time_budget_s is None:
        found.steps = int(np.clip(LEAST_STEPS + STEPS_A_CROP * crops.rows, 0, MOST_STEPS))
    elif found.steps is None:
        found.steps = 1_000_000  # as many as there is time for
    if found.batch is None:
        found.batch = max(1, STEP_PIXELS // (crops.side**2 * channels))
    found.members = 1
    return found


def own_training() -> TrainingConfig:
    """The plan where none is given."""
    return TrainingConfig(learning_rate=LEARNING_RATE, patience=None)


def _checked(images: Images, partners: Images | None) -> tuple[list[Image], list[Image] | None]:
    """Images of one number of channels, each with a partner of its size where there are any.

    Raises: DataError.
    """
    held = images.images
    for image in held:
        check_channels(image, held[0].channels, f"{held[0].name} and others")
    if partners is None:
        return held, None
    if len(partners.images) != len(held):
        raise DataError(
            f"{len(held)} noisy images and {len(partners.images)} second ones: give one each"
        )
    for noisy, other in zip(held, partners.images, strict=True):
        sizes = [(p.height, p.width, p.channels) for p in (noisy, other)]
        if sizes[0] != sizes[1]:
            raise DataError(f"{noisy.name} is {sizes[0]} and its partner {sizes[1]}")
    return held, partners.images


def check_channels(image: Image, channels: int, others: str) -> None:
    """Raises: DataError for a grey image among colour ones, or the reverse."""
    if image.channels != channels:
        kinds = {1: "grey"}
        this, that = (kinds.get(n, f"of {n} channels") for n in (image.channels, channels))
        raise DataError(
            f"{image.name} is {this}, {others} {that}: one model takes one kind; convert it, or "
            "fit a model for each"
        )


def _side(held: list[Image], step: int) -> int:
    """The side of a training crop: as large as the largest image, at most `SIDE`."""
    largest = max(max(p.height, p.width) for p in held)
    return -(-min(largest, SIDE) // step) * step


def _fingerprint(held: list[Image], shelf: ImageDataset, parts: dict[str, Any], seed: int) -> str:
    """A digest of images, settings and seed: equal ones make the same model."""
    sizes = [(p.name, p.height, p.width, p.channels, str(p.dtype)) for p in held]
    said = {name: part.recipe() for name, part in parts.items() if hasattr(part, "recipe")}
    levels = [unit.noise.recipe() for unit in shelf.units[:100]]
    digest = hashlib.sha256(json.dumps([sizes, said, levels, seed], sort_keys=True).encode())
    for place in np.linspace(0, len(held) - 1, min(len(held), 64)).astype(int):
        plane = shelf.plane(int(place), 0, 0, 256)
        digest.update(plane.numbers.tobytes())
        digest.update(b"" if plane.partner is None else plane.partner.tobytes())
    return digest.hexdigest()[:16]


def with_device(fitted: DenoisingModel, device: str) -> DenoisingModel:
    """The same denoiser with its network where it is asked to work."""
    training = TrainingConfig(**fitted.training.get_params())
    training.device = device
    fitted.network.to(training.torch_device())
    return replace(fitted, training=training)


__all__ = [
    "Callbacks",
    "DenoisingModel",
    "NoiseScaler",
    "check_channels",
    "learn",
    "make",
    "own_training",
]
