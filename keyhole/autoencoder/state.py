"""What a bundle keeps of an Autoencoder, and the way back: schema, shapes, weights, a trial."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_type_hints

import numpy as np
import torch

from keyhole.autoencoder.fit import Model
from keyhole.autoencoder.smoke_test import check_layout, shapes_of, try_codes, try_out
from keyhole.autoencoder.width import WidthChoice
from keyhole.checks import DenoisingEvidence, Evidence, Finding
from keyhole.core.layout import FAR, Layout, Shape
from keyhole.core.parts import build, fits
from keyhole.core.records import Batch
from keyhole.errors import BundleError
from keyhole.modalities import Modality
from keyhole.modalities.prepared import Parts
from keyhole.modalities.rows.split import FRESH, TRAINED, ReferenceSet
from keyhole.model.bottlenecks.base import AUTO, Identity, with_width
from keyhole.model.network import Network
from keyhole.model.priors import Prior
from keyhole.store import Bundle, record
from keyhole.training import History

MAX_MEMBERS = 64  # ensemble members of a saved model
MAX_NATS = 1e9  # of a row or column in a saved model
MAX_FIGURES = 1 << 17  # of held-out rows, or of codes
MAX_PRIOR_ROWS = 1 << 40  # codes that a saved prior was fitted to
# Tensors beside the weights.
CELLS, FOLD, FACTOR = "reference.features", "reference.fold", "reference.factor"
POSITION, MAX_POSITION = "reference.position", 1 << 26
PRIOR = "prior."
UNOBSERVED = 3e38  # marks a cell that was not seen: no column makes such a number
EVIDENCE = [  # figures by name, with their types
    {name: hint for name, hint in get_type_hints(kind).items() if name != "history"}
    for kind in (Evidence, DenoisingEvidence)
]
JUDGED = ("history", "evidence", "findings", "verdict")  # kept as a Model has them
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
    """The reference rows; their features are tensors beside the weights."""

    rows: int
    folds: int
    positions: bool = False  # whether their places in the order of training are among the tensors


@dataclass(frozen=True)
class PriorState:
    """The prior over codes, and the number of rows it was fitted to."""

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
    prior: PriorState | None = None
    choice: WidthChoice | None = None


def to_state(fitted: Model, random_state: Any, data: Data) -> dict[str, Any]:
    """The section `autoencoder` of a manifest, as JSON."""
    reference, prior = fitted.reference, fitted.prior
    shape = None
    if reference is not None:
        positions = reference.position is not None
        shape = ReferenceShape(len(reference), reference.folds, positions)
    state = State(
        parts=fitted.parts.recipes(),
        modality=fitted.modality.recipe(),
        members=fitted.network.shape.members,
        random_state=random_state if isinstance(random_state, int) else None,
        data=data,
        typical_nats=fitted.typical_nats.tolist(),
        held_out_nats=fitted.held_out_nats.tolist(),
        **{name: getattr(fitted, name) for name in JUDGED},
        reference=shape,
        choice=fitted.width_choice,
        prior=None if prior is None else PriorState(prior.recipe(), fitted.prior_rows),
    )
    return asdict(state)


def tensors_of(fitted: Model) -> dict[str, torch.Tensor]:
    """What a bundle keeps beside the weights: a prior's tensors, and the reference rows.

    Of these: a matrix of features, each row's fold and factor, and where rows share values its
    position.
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
    named |= {CELLS: features, FOLD: fold, FACTOR: factor}
    if reference.position is not None:  # places up to 2^24 stay exact
        named[POSITION] = torch.from_numpy(reference.position).float()
    return named


@np.errstate(all="ignore")  # odd numbers of a manifest are refused, not warned of
def restore(bundle: Bundle) -> tuple[State, Model]:
    """The fitted model that a bundle keeps, tried out. Raises: BundleError."""
    state, parts, modality = _described(bundle)
    bottleneck, shape = parts.bottleneck, Shape(modality.layout, members=state.members)
    if state.choice is not None and bottleneck.width == AUTO:
        bottleneck = with_width(bottleneck, state.choice.width)
    make = partial(Network, parts.net, bottleneck, parts.head, shape)
    tensors = _tensors(state, make, modality.layout, bundle)
    reference = None if state.reference is None else _reference(state, modality.layout, tensors)
    prior_names = [name for name in tensors if name.startswith(PRIOR)]
    prior_tensors = {name.removeprefix(PRIOR): tensors.pop(name) for name in prior_names}
    network = make()
    network.load_state_dict(tensors)
    network.eval()
    (try_out if modality.has_rows else type(modality).try_out)(modality, network)
    return state, Model(
        modality=modality,
        network=network,
        parts=parts,
        rows=state.data.rows,
        fingerprint=state.data.fingerprint,
        typical_nats=np.array(state.typical_nats, dtype=float),
        held_out_nats=np.sort(np.array(state.held_out_nats, dtype=float)),
        reference=reference,
        **{name: getattr(state, name) for name in JUDGED},
        width_choice=state.choice,
        prior=state.prior and _prior(state.prior, modality, network, prior_tensors),
        prior_rows=0 if state.prior is None else state.prior.rows,
        save=bundle.save,
    )


def _described(bundle: Bundle) -> tuple[State, Parts, Modality]:
    """What the manifest says, its parts and its modality, each checked. Raises: BundleError."""
    if "autoencoder" not in bundle.sections and bundle.sections:
        raise BundleError(
            f"{bundle.path} holds no autoencoder: it was fitted with "
            f"--for {', '.join(bundle.sections)}"
        )
    state = record(State, bundle.sections.get("autoencoder"), "section 'autoencoder'")
    chosen = set(Parts.names()) - {"bottleneck"}
    if not chosen <= set(state.parts) <= set(Parts.names()):
        raise BundleError(f"the manifest has unexpected parts: {sorted(state.parts)!r:.160}")
    named: dict[str, Any] = {name: build(name, recipe) for name, recipe in state.parts.items()}
    parts = Parts(**{"bottleneck": Identity(), **named})
    columns = state.modality.get("columns", state.data.columns)
    if len(columns) != len(state.data.columns):  # before any is built
        raise BundleError("the manifest cannot be used: data.columns: those of the table")
    modality = Modality.restored(state.modality)
    check_layout(modality.layout)
    _check(state, modality)
    return state, parts, modality


def _tensors(
    state: State, make: Callable[[], Network], layout: Layout, bundle: Bundle
) -> dict[str, torch.Tensor]:
    """The tensors, of the names and shapes that the manifest asks for. Raises: BundleError."""
    expected = shapes_of(make, layout, len(bundle.header.tensors))
    if state.reference is not None:
        rows = state.reference.rows
        expected |= {CELLS: (rows, len(layout)), FOLD: (rows,), FACTOR: (rows,)}
        expected |= {POSITION: (rows,)} if state.reference.positions else {}
    if state.prior is not None:
        with torch.device("meta"):
            unfitted = _unfitted(state.prior, make().width)
        expected |= {PRIOR + name: tuple(t.shape) for name, t in unfitted.state_dict().items()}
    return bundle.tensors(expected)


def _unfitted(state: PriorState, width: int) -> Prior:
    """A prior of a manifest's recipe, with room for what it learned. Raises: BundleError."""
    prior = build("prior", state.recipe)
    if not 1 <= state.rows <= MAX_PRIOR_ROWS:
        raise BundleError("the manifest cannot be used: prior.rows: as many as were fitted to")
    prior.bind_codes(width, state.rows)
    return prior


def _prior(
    state: PriorState, table: Modality, network: Network, tensors: dict[str, torch.Tensor]
) -> Prior:
    """The prior of a bundle, tried out. Raises: BundleError."""
    prior = _unfitted(state, network.width).eval()
    prior.load_state_dict(tensors)
    try_codes(table, network, prior.sample(4, torch.Generator().manual_seed(0)))
    return prior


def _reference(state: State, layout: Layout, tensors: dict[str, torch.Tensor]) -> ReferenceSet:
    """The reference rows of a bundle, taken out of its tensors. Raises: BundleError."""
    features, fold, factor = (tensors.pop(name) for name in (CELLS, FOLD, FACTOR))
    position = tensors.pop(POSITION, torch.zeros(0))
    folds = state.reference.folds if state.reference is not None else 0
    observed, count = features < UNOBSERVED, layout.numbers
    features = features.masked_fill(~observed, 0.0)
    codes = features[:, count:]
    levels = torch.tensor([float(slot.levels) for slot in layout.slots[count:]])
    wrong = {
        "reference rows: at least 2": len(features) < 2,
        "folds: as many as networks, or one": folds not in {1, state.members},
        "fold of a row: one of them, or none": bool(
            ((fold < FRESH) | (fold >= folds) | (fold != fold.round())).any()
        ),
        "some rows calibrate, and others are near": bool((fold == TRAINED).all())
        or (folds == 1 and bool((fold >= 0).all())),
        "positions: from 0 on, and not too large": bool(
            ((position < 0) | (position > MAX_POSITION)).any()
        ),
        "factor of a row: above zero": bool(((factor <= 0) | (factor > MAX_NATS)).any()),
        "features: numbers that columns make": bool((features.abs() > 2 * FAR).any()),
        "codes: levels of their columns": bool(
            ((codes < 0) | (codes > levels) | (codes != codes.round())).any()
        ),
    }  # fmt: skip
    refuse(wrong)
    batch = Batch(features[:, :count].contiguous(), codes.long(), observed)
    places = position.long().numpy() if len(position) else None
    return ReferenceSet(batch, fold.long().numpy(), folds, factor.numpy(), position=places)


def _check(state: State, table: Modality) -> None:
    data, history, seed = state.data, state.history, state.random_state
    lengths = {len(column) for column in history.columns().values()}
    lists = [figures for figures in state.evidence.values() if isinstance(figures, list)]
    evidence = next((e for e in EVIDENCE if set(e) == set(state.evidence)), {})
    wrong = {
        f"members: from 1 to {MAX_MEMBERS}": not 1 <= state.members <= MAX_MEMBERS,
        "random_state: from 0 to 2^32 - 1": seed is not None and not 0 <= seed < 1 << 32,
        "data.rows: too few": data.rows < (2 if table.has_rows else 1),
        "data.container: a kind of table": data.container not in CONTAINERS,
        "data.columns: those of the table": data.columns != [c.name for c in table.columns],
        "reasons: one for each column": set(table.reasons) != set(data.columns),
        "typical_nats: one for each column": len(state.typical_nats) != len(table.layout.columns),
        "typical_nats: too large": max(map(abs, state.typical_nats), default=0) > MAX_NATS,
        "held_out_nats: too many": len(state.held_out_nats) > MAX_FIGURES,
        "history: lists of one length": len(lengths) != 1 or lengths == {0},
        "evidence: too many figures": max(map(len, lists), default=0) > MAX_FIGURES,
        "evidence: a figure for each key": not evidence
        or not all(fits(state.evidence[n], h | None) for n, h in evidence.items()),
    }
    refuse(wrong)


def refuse(wrong: dict[str, bool], where: str = "the manifest") -> None:
    """Raises: BundleError for the first of these that is wrong."""
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"{where} cannot be used: {what}")
