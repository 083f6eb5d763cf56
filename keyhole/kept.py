"""What a bundle keeps of an Autoencoder, and the way back: schema, shapes, weights, a trial."""

from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import numpy as np

from keyhole.checks import Evidence, Finding
from keyhole.core.layout import Shape
from keyhole.core.part import build, fits
from keyhole.errors import BundleError
from keyhole.fitting import Fitted
from keyhole.modalities import Tabular
from keyhole.network import Network
from keyhole.store import Bundle, record
from keyhole.store.trial import check_layout, shapes_of, try_out
from keyhole.training import History

MOST_MEMBERS = 64
MOST_NATS = 1e9
CONTAINERS = {"array", "arrow", "pandas", "polars", "modin", "cudf"}


@dataclass(frozen=True)
class Data:
    """What an Autoencoder was fitted on."""

    rows: int
    columns: list[str]
    container: str
    fingerprint: str


@dataclass(frozen=True)
class Kept:
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


def section_of(fitted: Fitted, parts: dict[str, Any], state: Any, data: Data) -> dict[str, Any]:
    """The section `autoencoder` of a manifest, as JSON."""
    return asdict(
        Kept(
            parts={name: part.recipe() for name, part in parts.items()},
            modality=fitted.table.recipe(),
            members=fitted.network.shape.members,
            random_state=state if isinstance(state, int) else None,
            data=data,
            typical_nats=fitted.typical_nats.tolist(),
            held_out_nats=fitted.held_out_nats.tolist(),
            history=fitted.run,
            evidence=fitted.evidence,
            findings=fitted.findings,
            verdict=fitted.verdict,
        )
    )


@dataclass(frozen=True)
class Restored:
    """An Autoencoder's pieces, tried out."""

    kept: Kept
    parts: dict[str, Any]
    fitted: Fitted


@np.errstate(all="ignore")  # odd numbers of a manifest are refused, not warned of
def restore(bundle: Bundle, families: list[str]) -> Restored:
    """The pieces of the Autoencoder that a bundle keeps; `families` are those of its parts.

    Raises: BundleError.
    """
    kept = record(Kept, bundle.sections.get("autoencoder"), "section 'autoencoder'")
    if sorted(kept.parts) != sorted(families):
        raise BundleError(f"the manifest has parts {sorted(kept.parts)!r:.160}")
    parts = {name: build(name, recipe) for name, recipe in kept.parts.items()}
    if len(kept.modality.get("columns", ())) != len(kept.data.columns):  # before any is built
        raise BundleError("the manifest cannot be used: data.columns: those of the table")
    table = Tabular.restored(kept.modality)
    check_layout(table.layout)
    _check(kept, table)
    shape = Shape(table.layout, members=kept.members)

    def make() -> Network:
        return Network(parts["net"], parts["bottleneck"], parts["head"], shape)

    tensors = bundle.tensors(shapes_of(make, table.layout, bundle.most_tensors()))
    network = make()
    network.load_state_dict(tensors)
    try_out(table, network.eval())
    fitted = Fitted(
        table=table,
        network=network,
        run=kept.history,
        rows=kept.data.rows,
        fingerprint=kept.data.fingerprint,
        typical_nats=np.array(kept.typical_nats, dtype=float),
        held_out_nats=np.sort(np.array(kept.held_out_nats, dtype=float)),
        evidence=kept.evidence,
        findings=kept.findings,
        verdict=kept.verdict,
    )
    return Restored(kept, parts, fitted)


def _check(kept: Kept, table: Tabular) -> None:
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
        "history: lists of one length": len(lengths) != 1 or lengths == {0},
        "evidence: a figure for each key": set(kept.evidence) != set(evidence)
        or not all(fits(kept.evidence[n], h | None) for n, h in evidence.items()),
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"the manifest cannot be used: {what}")
