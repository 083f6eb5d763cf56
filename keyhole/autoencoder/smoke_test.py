"""A model that was read is tried out before anybody holds it.

Types and names were compared by then; what is left is values that a checksum cannot judge, since
whoever alters a file can count its checksum again. So the sizes that a manifest asks for are
counted without memory, its cells are checked, and a few rows go all the way through.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registry

from keyhole.core.layout import MAX_LEVELS, Layout, Slot, column_nats
from keyhole.core.records import Batch, Likelihood
from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows
from keyhole.errors import BundleError
from keyhole.modalities.base import Modality
from keyhole.modalities.expected import Prediction
from keyhole.modalities.rows.holdout import members_mean
from keyhole.model.network import Network
from keyhole.store.bundle import Shapes

MAX_BUFFERED = 1 << 26  # numbers that a network keeps beside its weights
BUFFERS_A_FEATURE = 8
TRIED = (0.0, 1.0, 2.0, -3.0, 8.0)  # cells of the rows that are tried; codes from 0 up


def shapes_of(make: Callable[[], nn.Module], layout: Layout, most: int) -> Shapes:
    """Names and shapes of a network's weights, counted without memory for them.

    Raises: BundleError beyond `most` weights, which is as many as the file holds.
    """
    with _at_most(most + BUFFERS_A_FEATURE * (len(layout) + 1)), torch.device("meta"):
        unfitted = make()
    state = unfitted.state_dict()
    buffers = sum(b.numel() for name, b in unfitted.named_buffers() if name not in state)
    if buffers > MAX_BUFFERED:
        raise BundleError(f"the network needs {buffers:,} numbers besides its weights")
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def check_layout(layout: Layout) -> None:
    """Raises: BundleError for cells that no column of ours makes."""
    if not len(layout):
        raise BundleError("the manifest has no column to score")
    for slot in layout.slots:
        if not _possible(slot):
            raise BundleError(f"column {slot.column!r:.80} has an invalid feature: {slot!r:.160}")


@torch.no_grad()
def try_out(table: Modality, network: Network) -> None:
    """Send a few rows of the table's own making, and an empty one, through table and network.

    Raises: BundleError for cells that are not numbers, and whatever fails on the way.
    """
    names = [column.name for column in table.columns]
    if len(set(names)) < len(names):
        raise BundleError("two columns of the manifest have the same name")
    layout, rows = table.layout, len(TRIED)
    numbers = torch.tensor(TRIED)[:, None].expand(rows, layout.numbers)
    codes = torch.arange(rows)[:, None].expand(rows, layout.codes)
    features = Batch(numbers, codes, torch.ones((rows, len(layout)), dtype=torch.bool))
    expected = table.decode(features)
    table.guess(features)
    table.drawn(features)
    matrix, level = table.features(features), np.ones((len(features), 1))
    for column in table.encoded_columns:
        own = matrix[:, table.layout.features(column.name)]
        table.texts(ArrowRows(expected), column.name)
        table.expected(column.name, own, Prediction(own, own, own, level))
    empty = pa.table({f.name: pa.nulls(1, f.type) for f in expected.schema})
    batch = table.encode(ArrowRows(pa.concat_tables([expected, empty])))
    if not torch.isfinite(batch.numbers).all():
        raise BundleError("the columns of the manifest give values that are NaN or infinite")
    table.check_types(expected.schema)
    passed = network(batch)
    log_prob = passed.likelihood.log_prob(batch)
    if not torch.isfinite(log_prob[:, :, batch.observed]).all():
        raise BundleError("the weights give likelihoods that are NaN or infinite")
    column_nats(log_prob[0, 0], batch.observed, table.layout)
    _draw(table, passed.likelihood)


@torch.no_grad()
def try_codes(table: Modality, network: Network, codes: Tensor) -> None:
    """Draw a row from each of these codes (row, code).

    Raises: BundleError for codes or cells that are not numbers, and whatever fails on the way.
    """
    if not torch.isfinite(codes).all():
        raise BundleError("the prior of this model gives codes that are NaN or infinite")
    codes = network.bottleneck.project(codes)
    _draw(table, network.decode(codes.expand(1, network.shape.members, *codes.shape)))


def _draw(table: Modality, likelihood: Likelihood) -> None:
    """The means and a draw of a likelihood as rows of the table."""
    mean = members_mean(likelihood.mean, first=True)
    table.decode(mean)
    table.guess(mean)
    drawn = members_mean(likelihood.sample(torch.Generator().manual_seed(0)), first=True)
    if not (torch.isfinite(mean.numbers).all() and torch.isfinite(drawn.numbers).all()):
        raise BundleError("the weights give samples that are NaN or infinite")
    table.drawn(drawn)


def _possible(slot: Slot) -> bool:
    numbers = (slot.center, slot.scale, slot.nats_unobserved, slot.step, *slot.ends, *slot.shares)
    bins = all(
        len(b) == 5 and all(map(math.isfinite, b)) and b[0] < b[1] and b[2] <= b[3] and b[4] > 0
        for b in slot.bins
    ) and all(a[1] == b[0] for a, b in itertools.pairwise(slot.bins))
    shared = len(slot.shares) == slot.levels and all(share > 0 for share in slot.shares)
    return (
        all(map(math.isfinite, numbers))
        and slot.scale > 0
        and slot.step >= 0
        and bins
        and 0 <= slot.nats_unobserved <= 100  # e^100 rows
        and slot.levels <= MAX_LEVELS + 1
        and (shared or not slot.coded)
    )


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """Stop a network that is being made once it has more tensors than this."""
    thread, count = threading.get_ident(), itertools.count(1)

    def check(_module: nn.Module, _name: str, tensor: Any) -> None:
        if threading.get_ident() == thread and tensor is not None and next(count) > tensors:
            raise BundleError("the manifest asks for more weights than the file holds")

    with (
        registry.register_module_parameter_registration_hook(check),
        registry.register_module_buffer_registration_hook(check),
    ):
        yield
