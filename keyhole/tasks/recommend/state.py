"""What a bundle keeps of a recommender: identifiers, lists, the model, and figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from keyhole.core.parts import build
from keyhole.data.identifiers import Identifiers, whole_numbers
from keyhole.data.interactions import InteractionColumns, Interactions, Lists
from keyhole.errors import BundleError
from keyhole.store import Bundle, record, wrap_errors
from keyhole.tasks.recommend.base import RankingModel
from keyhole.tasks.recommend.blend import Blend
from keyhole.tasks.recommend.embedding import aligned
from keyhole.tasks.recommend.low_rank import LowRank

SECTION = "recommend"
MAX_COUNT = 1 << 24  # a float32 tells no more whole numbers apart
MODEL, EMBEDDING = "model.", "embedding."  # in front of the names of tensors


@dataclass(frozen=True)
class RecommenderState:
    """The section `recommend` of a manifest: these keys, of these types."""

    columns: InteractionColumns | None
    numeric: list[bool]  # identifiers of users and of items are whole numbers
    model: dict[str, Any]
    embedding: dict[str, Any] | None
    compared: dict[str, float]
    why: list[str]
    net: str
    random_state: int | None
    evaluation: dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves: what was learned from, the model, and the items' vectors."""

    interactions: Interactions
    columns: InteractionColumns | None
    model: RankingModel
    embedding: LowRank | None

    def turned_to(self, before: Fitted | None) -> Fitted:
        """With vectors of items that lie as near as can be to those of an earlier fit."""
        if before is None or self.embedding is None or before.embedding is None:
            return self
        items = self.interactions.items, before.interactions.items
        embedding = aligned(self.embedding, items[0], before.embedding, items[1])
        return replace(self, embedding=embedding)


def text_of(net: str | RankingModel) -> str:
    """What `Recommender(net)` takes for the same settings; those of a blend are chosen again."""
    if isinstance(net, str):
        return net
    settings = ",".join(f"{name}={value}" for name, value in net.get_params().items())
    return "auto" if isinstance(net, Blend) else f"{net.kind}:{settings}"


def tensors_of(fitted: Fitted) -> dict[str, Tensor]:
    """The tensors of a bundle: identifiers as bytes, the lists, and what models learned.

    Raises: BundleError for more items than a float32 can count.
    """
    own = fitted.interactions
    if len(own.items) > MAX_COUNT:
        raise BundleError(f"more than {MAX_COUNT:,} items: the model is not saved")
    named = {
        "lists.lengths": np.diff(own.history.indptr),
        "lists.items": own.history.indices,
    }
    for name, identifiers in (("users", own.users), ("items", own.items)):
        encoded = [text.encode() for text in identifiers.texts]
        named[f"{name}.lengths"] = np.array([len(text) for text in encoded])
        named[f"{name}.bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
    tensors = {name: torch.from_numpy(values.astype(np.float32)) for name, values in named.items()}
    tensors |= {MODEL + name: tensor for name, tensor in fitted.model.tensors().items()}
    if fitted.embedding is not None:
        tensors |= {EMBEDDING + name: t for name, t in fitted.embedding.tensors().items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def section_of(state: RecommenderState) -> dict[str, Any]:
    """The section as JSON."""
    return asdict(state)


def restored(bundle: Bundle) -> tuple[RecommenderState, Fitted]:
    """What a bundle keeps, checked. Raises: BundleError."""
    if SECTION not in bundle.sections:
        raise BundleError(
            f"{bundle.path} holds no recommender: it was not fitted with --for recommend"
        )
    state = record(RecommenderState, bundle.sections[SECTION], f"section {SECTION!r}")
    with wrap_errors("the manifest"):
        model: RankingModel = build("ranking", state.model)
        embedding = None if state.embedding is None else build("ranking", state.embedding)
        if not isinstance(embedding, LowRank | None):
            raise BundleError(f"the vectors of items are not {embedding.kind!r}")
        tensors = bundle.tensors(_expected(bundle, model, embedding))
        users, items = (
            _identifiers(tensors, name, numeric)
            for name, numeric in zip(("users", "items"), state.numeric, strict=True)
        )
        history = _lists(tensors, len(users), len(items))
        for part, prefix in ((model, MODEL), (embedding, EMBEDDING)):
            if part is not None:
                own = {n.removeprefix(prefix): t for n, t in tensors.items()
                       if n.startswith(prefix)}  # fmt: skip
                part.restored(own, history)
                if not np.isfinite(part.scores(history[:1])).all():
                    raise BundleError("the weights give scores that are NaN or infinite")
    interactions = Interactions(users, items, history)
    return state, Fitted(interactions, state.columns, model, embedding)


def _expected(bundle: Bundle, model: RankingModel, embedding: Any) -> dict[str, Any]:
    """The names and shapes of tensors; where any length will do, that of the file."""
    given: dict[str, Any] = {n: t.get("shape") for n, t in bundle.header.tensors.items()}

    def length(name: str) -> int:
        shape = given.get(name)
        if not isinstance(shape, list) or len(shape) != 1:
            raise BundleError(f"the bundle has no list {name!r}")
        return int(shape[0])

    users, items = length("users.lengths"), length("items.lengths")
    shapes: dict[str, tuple[int, ...]] = {
        n: (length(n),) for n in ("users.bytes", "items.bytes", "lists.items")
    }
    shapes |= {"users.lengths": (users,), "items.lengths": (items,), "lists.lengths": (users,)}
    for part, prefix in ((model, MODEL), (embedding, EMBEDDING)):
        for name, shape in ({} if part is None else part.shapes(users, items)).items():
            own = given.get(prefix + name) or []
            free = len(own) == len(shape) and all(
                s in (-1, size) for s, size in zip(shape, own, strict=True)
            )
            shapes[prefix + name] = tuple(own) if free else tuple(abs(s) for s in shape)
    return shapes


def _identifiers(tensors: dict[str, Tensor], name: str, numeric: bool) -> Identifiers:
    lengths = _counts(tensors, f"{name}.lengths")
    codes = tensors[f"{name}.bytes"].numpy()
    if lengths.sum() != len(codes) or not ((codes >= 0) & (codes < 256)).all():
        raise BundleError(f"the identifiers of {name} are damaged")
    text, ends = codes.astype(np.uint8).tobytes(), np.cumsum(lengths).tolist()
    texts = [text[end - n : end].decode() for n, end in zip(lengths.tolist(), ends, strict=True)]
    if len(set(texts)) < len(texts):
        raise BundleError(f"two {name} have the same identifier")
    identifiers = Identifiers(tuple(texts), numeric)
    if numeric and whole_numbers(identifiers.as_texts) is None:
        raise BundleError(f"the identifiers of {name} are not whole numbers")
    return identifiers


def _lists(tensors: dict[str, Tensor], users: int, items: int) -> Lists:
    lengths = _counts(tensors, "lists.lengths")
    places = _counts(tensors, "lists.items")
    if lengths.sum() != len(places) or (len(places) and places.max() >= items):
        raise BundleError("the lists of the bundle are damaged")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ones = np.ones(len(places), np.float32)
    history = sparse.csr_array((ones, places, starts), (users, items))
    if not history.has_canonical_format:
        raise BundleError("the lists of the bundle are not in order")
    return history


def _counts(tensors: dict[str, Tensor], name: str) -> np.ndarray:
    values = tensors[name].numpy()
    if not ((values >= 0) & (values == np.floor(values)) & (values <= MAX_COUNT)).all():
        raise BundleError(f"{name!r} of the bundle are not counts")
    return values.astype(np.int64)
