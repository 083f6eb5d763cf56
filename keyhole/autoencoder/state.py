"""What a bundle keeps of an Autoencoder, and the way back: schema, shapes, weights, a trial."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import numpy as np
import torch

from keyhole.autoencoder.fit import Model
from keyhole.autoencoder.smoke_test import check_layout, shapes_of, try_codes, try_out
from keyhole.autoencoder.width import WidthChoice
from keyhole.checks import Evidence, Finding
from keyhole.core.layout import FAR, Layout, Shape
from keyhole.core.parts import build, fits
from keyhole.core.records import Batch
from keyhole.errors import BundleError
from keyhole.modalities import Modality
from keyhole.model.bottlenecks.base import AUTO, with_width
from keyhole.model.network import Network
from keyhole.model.priors import Prior
from keyhole.store import Bundle, record
from keyhole.training import History
from keyhole.training.reference import FRESH, TRAINED, ReferenceSet

MOST_MEMBERS = 64
MOST_NATS = 1e9
MOST_FIGURES = 1 << 17  # of held-out rows, or of codes
MOST_PRIOR_ROWS = 1 << 40
CELLS, FOLD, FACTOR = (
    "reference.features",
    "reference.fold",
    "reference.factor",
)  # beside the weights
PRIOR = "prior."
UNOBSERVED = 3e38  # marks a cell that was not seen: no column makes such a number
CONTAINERS = {"array", "images", "arrow", "pandas", "polars", "modin", "cudf"}


@dataclass(frozen=True)
class Data:
    """What an Autoencoder was fitted on."""

    rows: int
    columns: list[str]
    container: str
    fingerprint: str


@dataclass(frozen=True)
class ReferenceShape:
    """The rows that new ones are compared with; their cells stand beside the weights."""

    rows: int
    folds: int


@dataclass(frozen=True)
class KeptPrior:
    """The prior over codes, and how many rows it learned; its tensors stand beside the weights."""

    recipe: dict[str, Any]
    rows: int


@dataclass(frozen=True)
class State:
    """The section `autoencoder` of a manifest: these keys, of these types."""

    parts: dict[str, dict[str, Any]]
    modality: dict[str, Any]
    members: int
    random_state: int | None
    data: Data
    typical_nats: list[float]
    held_out_nats: list[float]
    history: History
    evidence: dict[str, Any]
    findings: list[Finding]
    verdict: str
    reference: ReferenceShape | None = None
    prior: KeptPrior | None = None
    choice: WidthChoice | None = None


def to_state(fitted: Model, parts: dict[str, Any], state: Any, data: Data) -> dict[str, Any]:
    """The section `autoencoder` of a manifest, as JSON."""
    reference, prior = fitted.reference, fitted.prior
    return asdict(
        State(
            parts={name: part.recipe() for name, part in parts.items()},
            modality=fitted.modality.recipe(),
            members=fitted.network.shape.members,
            random_state=state if isinstance(state, int) else None,
            data=data,
            typical_nats=fitted.typical_nats.tolist(),
            held_out_nats=fitted.held_out_nats.tolist(),
            history=fitted.history,
            evidence=fitted.evidence,
            findings=fitted.findings,
            verdict=fitted.verdict,
            reference=None
            if reference is None
            else ReferenceShape(len(reference), reference.folds),
            choice=fitted.width_choice,
            prior=None if prior is None else KeptPrior(prior.recipe(), fitted.prior_rows),
        )
    )


def tensors_of(fitted: Model) -> dict[str, torch.Tensor]:
    """What a bundle keeps beside the weights: a prior's tensors, and remembered rows.

    Of these a matrix of cells, each row's fold and factor.
    """
    prior = {} if fitted.prior is None else fitted.prior.state_dict()
    named = {PRIOR + name: tensor for name, tensor in prior.items()}
    reference = fitted.reference
    if reference is None:
        return named
    batch = reference.batch
    features = torch.cat([batch.numbers, batch.codes.float()], 1)  # codes up to 2^24 stay exact
    features = features.masked_fill(~batch.observed, UNOBSERVED)
    fold, factor = (torch.from_numpy(part).float() for part in (reference.fold, reference.factor))
    return named | {CELLS: features, FOLD: fold, FACTOR: factor}


@dataclass(frozen=True)
class Restored:
    """An Autoencoder's pieces, tried out."""

    kept: State
    parts: dict[str, Any]
    fitted: Model


@np.errstate(all="ignore")  # odd numbers of a manifest are refused, not warned of
def restore(bundle: Bundle, families: list[str]) -> Restored:
    """The pieces of the Autoencoder that a bundle keeps; `families` are those of its parts.

    Raises: BundleError.
    """
    kept, parts, table = _described(bundle, families)
    make = _maker(kept, parts, Shape(table.layout, members=kept.members))
    tensors = _tensors(kept, make, table.layout, bundle)
    reference = None if kept.reference is None else _reference(kept, table.layout, tensors)
    beside = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PRIOR)}
    network = make()
    network.load_state_dict(tensors)
    try_out(table, network.eval())
    fitted = Model(
        modality=table,
        network=network,
        history=kept.history,
        rows=kept.data.rows,
        fingerprint=kept.data.fingerprint,
        typical_nats=np.array(kept.typical_nats, dtype=float),
        held_out_nats=np.sort(np.array(kept.held_out_nats, dtype=float)),
        reference=reference,
        evidence=kept.evidence,
        findings=kept.findings,
        verdict=kept.verdict,
        width_choice=kept.choice,
        prior=None if kept.prior is None else _prior(kept.prior, table, network, beside),
        prior_rows=0 if kept.prior is None else kept.prior.rows,
        save=bundle.save,
    )
    return Restored(kept, parts, fitted)


def _described(bundle: Bundle, families: list[str]) -> tuple[State, dict[str, Any], Modality]:
    """What the manifest says, its parts and its table, each checked.

    Raises: BundleError.
    """
    if "autoencoder" not in bundle.sections and "denoise" in bundle.sections:
        raise BundleError(
            f"{bundle.path} holds a denoiser, which has no code: ask keyhole denoise"
        )
    kept = record(State, bundle.sections.get("autoencoder"), "section 'autoencoder'")
    if sorted(kept.parts) != sorted(families):
        raise BundleError(f"the manifest has parts {sorted(kept.parts)!r:.160}")
    parts = {name: build(name, recipe) for name, recipe in kept.parts.items()}
    if len(kept.modality.get("columns", kept.data.columns)) != len(
        kept.data.columns
    ):  # before any is built
        raise BundleError("the manifest cannot be used: data.columns: those of the table")
    table = Modality.restored(kept.modality)
    check_layout(table.layout)
    _check(kept, table)
    return kept, parts, table


def _maker(kept: State, parts: dict[str, Any], shape: Shape) -> Callable[[], Network]:
    """What makes the network, unfitted, of the width that was taken."""
    bottleneck = parts["bottleneck"]
    if kept.choice is not None and bottleneck.width == AUTO:
        bottleneck = with_width(bottleneck, kept.choice.width)
    return lambda: Network(parts["net"], bottleneck, parts["head"], shape)


def _tensors(
    kept: State, make: Callable[[], Network], layout: Layout, bundle: Bundle
) -> dict[str, torch.Tensor]:
    """The tensors of a bundle, once their names and shapes are those that its manifest asks for.

    Raises: BundleError.
    """
    expected = shapes_of(make, layout, bundle.most_tensors())
    if kept.reference is not None:
        rows = kept.reference.rows
        expected |= {CELLS: (rows, len(layout)), FOLD: (rows,), FACTOR: (rows,)}
    if kept.prior is not None:
        with torch.device("meta"):
            sketch = _unfitted(kept.prior, make().width)
        expected |= {PRIOR + name: tuple(t.shape) for name, t in sketch.state_dict().items()}
    return bundle.tensors(expected)


def _unfitted(kept: KeptPrior, width: int) -> Prior:
    """A prior of a manifest's recipe, with room for what it learned.

    Raises: BundleError.
    """
    prior = build("prior", kept.recipe)
    if not 1 <= kept.rows <= MOST_PRIOR_ROWS:
        raise BundleError("the manifest cannot be used: prior.rows: as many as were fitted to")
    prior.bind_codes(width, kept.rows)
    return prior


def _prior(
    kept: KeptPrior, table: Modality, network: Network, tensors: dict[str, torch.Tensor]
) -> Prior:
    """The prior of a bundle, tried out.

    Raises: BundleError.
    """
    prior = _unfitted(kept, network.width).eval()
    prior.load_state_dict({name.removeprefix(PRIOR): t for name, t in tensors.items()})
    try_codes(table, network, prior.sample(4, torch.Generator().manual_seed(0)))
    return prior


def _reference(kept: State, layout: Layout, tensors: dict[str, torch.Tensor]) -> ReferenceSet:
    """The rows that a bundle remembers, taken out of its tensors.

    Raises: BundleError.
    """
    features, fold, wide = tensors.pop(CELLS), tensors.pop(FOLD), layout.numbers
    factor = tensors.pop(FACTOR)
    folds = kept.reference.folds if kept.reference is not None else 0
    observed = features < UNOBSERVED
    features = features.masked_fill(~observed, 0.0)
    codes, levels = (
        features[:, wide:],
        torch.tensor([float(s.levels) for s in layout.slots[wide:]]),
    )
    wrong = {
        "rows to compare with: at least 2": len(features) < 2,
        "folds: as many as nets, or one": folds not in {1, kept.members},
        "fold of a row: one of them, or none": bool(
            ((fold < FRESH) | (fold >= folds) | (fold != fold.round())).any()
        ),
        "some rows calibrate, and others are near": bool((fold == TRAINED).all())
        or (folds == 1 and bool((fold >= 0).all())),
        "factor of a row: above zero": bool(((factor <= 0) | (factor > MOST_NATS)).any()),
        "cells: numbers that columns make": bool((features.abs() > 2 * FAR).any()),
        "codes: levels of their columns": bool(
            ((codes < 0) | (codes > levels) | (codes != codes.round())).any()
        ),
    }  # fmt: skip
    _refuse(wrong)
    batch = Batch(features[:, :wide].contiguous(), codes.long(), observed)
    return ReferenceSet(batch, fold.long().numpy(), folds, factor.numpy())


def _check(kept: State, table: Modality) -> None:
    data, history, state = kept.data, kept.history, kept.random_state
    lengths = {len(column) for column in history.columns().values()}
    evidence = {n: h for n, h in get_type_hints(Evidence).items() if n != "history"}
    wrong = {
        f"members: from 1 to {MOST_MEMBERS}": not 1 <= kept.members <= MOST_MEMBERS,
        "random_state: from 0 to 2^32 - 1": state is not None and not 0 <= state < 1 << 32,
        "data.rows: at least 2": data.rows < 2,
        "data.container: a kind of table": data.container not in CONTAINERS,
        "data.columns: those of the table": data.columns != [c.name for c in table.columns],
        "reasons: one for each column": set(table.reasons) != set(data.columns),
        "typical_nats: one for each column": len(kept.typical_nats) != len(table.layout.columns),
        "typical_nats: far too large": max(map(abs, kept.typical_nats), default=0) > MOST_NATS,
        "held_out_nats: far too many": len(kept.held_out_nats) > MOST_FIGURES,
        "history: lists of one length": len(lengths) != 1 or lengths == {0},
        "evidence: far too many figures": any(
            len(figures) > MOST_FIGURES
            for figures in kept.evidence.values()
            if isinstance(figures, list)
        ),
        "evidence: a figure for each key": set(kept.evidence) != set(evidence)
        or not all(fits(kept.evidence[n], h | None) for n, h in evidence.items()),
    }
    _refuse(wrong)


def _refuse(wrong: dict[str, bool]) -> None:
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"the manifest cannot be used: {what}")
