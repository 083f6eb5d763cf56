"""What a bundle keeps of a denoiser, and the way back."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from keyhole.autoencoder.smoke_test import shapes_of
from keyhole.checks import Finding
from keyhole.core.layout import Layout
from keyhole.core.parts import build
from keyhole.denoising.choice import NET, Choice
from keyhole.denoising.fitted import DenoisingModel, make
from keyhole.errors import BundleError
from keyhole.modalities.tiles.noise import FILTERS, Noise
from keyhole.model.nets.unet import UNet
from keyhole.store import Bundle, record, wrap_errors
from keyhole.training import History

SECTION = "denoise"
PARTS = ("corruption", "head", "net", "training")
PLAIN = (  # kept as they are
    "clean", "choice", "history", "images", "pixels", "side", "channels", "fingerprint",
    "findings", "verdict", "used",
)  # fmt: skip
MOST_SIDE, MOST_CHANNELS = 64, 64


@dataclass(frozen=True)
class KeptNoise:
    """A noise: its numbers, and its autocorrelation by rows."""

    sigma: float
    gain: float
    offset: float
    kernel: list[list[float]]
    rows: float
    columns: float
    impulses: float


@dataclass(frozen=True)
class State:
    """The section `denoise` of a manifest: these keys, of these types."""

    parts: dict[str, dict[str, Any]]
    given: dict[str, dict[str, Any] | None]
    told: KeptNoise | None
    axes: str | None
    fallback: bool
    random_state: int | None
    noise: KeptNoise
    clean: str
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


def to_state(fitted: DenoisingModel, parts: dict[str, Any], denoiser: Any) -> dict[str, Any]:
    """The section `denoise` of a manifest, as JSON."""
    used = {"net": parts["net"], "head": parts["head"], "training": fitted.training,
            "corruption": fitted.corruption}  # fmt: skip
    given = {name: getattr(denoiser, name) for name in PARTS}
    state = denoiser.random_state
    return asdict(
        State(
            parts={name: part.recipe() for name, part in used.items()},
            given={name: None if p is None else p.recipe() for name, p in given.items()},
            told=None if parts["noise"] is None else KeptNoise(**parts["noise"].recipe()),
            axes=denoiser.axes,
            fallback=denoiser.fallback,
            random_state=state if isinstance(state, int) else None,
            noise=KeptNoise(**fitted.noise.recipe()),
            **{name: getattr(fitted, name) for name in PLAIN},
        )
    )


def restored(bundle: Bundle) -> tuple[DenoisingModel, dict[str, Any]]:
    """The fitted denoiser of a bundle, tried out, and the arguments it was made with.

    Raises: BundleError.
    """
    if SECTION not in bundle.sections:
        raise BundleError(f"{bundle.path} holds no denoiser: it was not fitted with --for denoise")
    kept = record(State, bundle.sections[SECTION], f"section {SECTION!r}")
    with wrap_errors(f"section {SECTION!r}"):
        _check(kept)
        parts = {name: build(name, recipe) for name, recipe in kept.parts.items()}
        given = {n: None if r is None else build(n, r) for n, r in kept.given.items()}
        if not isinstance(parts["net"], UNet) or not isinstance(given["net"], UNet | None):
            raise BundleError("the net of a denoiser is a U-Net")
        for part in (*parts.values(), *given.values()):
            if part is not None:
                part.check()

        def sketch() -> Any:
            return make(parts["net"], parts["head"], kept.side, kept.channels)

        tensors = bundle.tensors(shapes_of(sketch, Layout(()), bundle.most_tensors()))
        network = sketch()
        network.load_state_dict(tensors)
        network.eval()
        _try_out(network, parts["net"].step, kept.channels)
        told = None if kept.told is None else Noise.of_recipe(asdict(kept.told))
        told = told.sigma if told is not None and told == Noise(told.sigma) else told
        plain = {n: getattr(kept, n) for n in PLAIN}
        own = {name: parts[name] for name in ("net", "corruption", "training")}
        noise = Noise.of_recipe(asdict(kept.noise))
        fitted = DenoisingModel(network=network, noise=noise, **own, **plain)
        arguments = given | {"noise": told, "axes": kept.axes, "fallback": kept.fallback,
                             "random_state": kept.random_state}  # fmt: skip
    return fitted, arguments


def _check(kept: State) -> None:
    wrong = {
        "parts: those of a denoiser": sorted(kept.parts) != list(PARTS),
        "given: those of a denoiser": sorted(kept.given) != list(PARTS),
        "side: of a training crop": not 1 <= kept.side <= MOST_SIDE,
        "channels: of an image": not 1 <= kept.channels <= MOST_CHANNELS,
        "images, pixels: at least 1": min(kept.images, kept.pixels) < 1,
        "noise: a level that pixels can have": not all(
            1e-30 < max(n.sigma, n.gain) < 1e30 for n in (kept.noise, kept.told or kept.noise)
        ),
        "clean: images, partners, or neither": kept.clean not in {"", "images", "partners"},
        "used: the net, or a filter": kept.used not in {NET, *FILTERS},
        "scores: of the net and the filters": not {NET} < set(kept.choice.scores)
        or not set(kept.choice.scores) <= {NET, *FILTERS},
        "history: at least one evaluation": not kept.history.steps,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"the manifest cannot be used: {what}")


@torch.no_grad()
def _try_out(network: Any, step: int, channels: int) -> None:
    """Raises: BundleError for a net whose pixels are not numbers."""
    noise = torch.Generator().manual_seed(0)
    planes = torch.randn(1, channels, 2 * step, 2 * step, generator=noise)
    found = network.encoder.planes(planes)
    if found.shape != planes.shape or not torch.isfinite(found).all():
        raise BundleError("this net makes pixels that are not numbers")
