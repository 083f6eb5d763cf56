"""Masked columns: all groups go through the net together, and each is predicted from the rest."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from keyhole import Autoencoder
from keyhole.core.environment import PASS_ROWS
from keyhole.core.parts import kinds
from keyhole.data.source import ArrowRows
from keyhole.model.masked import MaskedPasses
from keyhole.nets import MLP
from keyhole.tasks.detect.masked import GROUPS, masked_deviance
from keyhole.training import TrainingConfig

RNG = np.random.default_rng(1)
ROWS = 90
TABLE = pa.table({
    "length": pa.array(RNG.normal(size=ROWS), mask=RNG.random(ROWS) < 0.1),
    "price": pa.array(RNG.lognormal(7, 1, ROWS)),
    "whole": pa.array(RNG.poisson(3, ROWS)),
    "paid": pa.array(RNG.random(ROWS) > 0.4),
    "size": pa.array(np.array(["S", "M", "L"])[RNG.integers(0, 3, ROWS)]),
    "day": pa.array(np.datetime64("2024-01-01") + RNG.integers(0, 300, ROWS)),
})  # fmt: skip


@pytest.fixture(scope="module")
def model():
    training = TrainingConfig(steps=20, members=2)
    return Autoencoder(training=training, random_state=0).fit(TABLE).model_


@pytest.fixture(scope="module")
def batch(model):
    return model.modality.encode(ArrowRows(TABLE))


@torch.no_grad()
def one_group_at_a_time(model, batch):
    """The same figures, a pass a group, all of a likelihood computed."""
    nats = torch.zeros(model.network.shape.members, len(batch), len(model.modality.layout))
    for group in model.modality.mask_groups(GROUPS):
        masked = torch.zeros(len(model.modality.layout), dtype=torch.bool)
        masked[group] = True
        deviance = model.network(batch.hide(masked)).likelihood.deviance(batch)[0]
        nats[..., masked] = deviance[..., masked]
    return torch.where(batch.observed, nats, 0.0)


def test_one_pass_of_all_groups_is_a_pass_of_each(model, batch):
    deviance, observed = masked_deviance(model.modality, model.network, batch)
    expected = one_group_at_a_time(model, batch)
    torch.testing.assert_close(
        torch.where(observed, deviance, 0.0).sum(-1), expected.sum(-1), rtol=1e-5, atol=1e-5
    )


OWN_NETS = {"composite", "pursuit"}  # the first has no default, the second a linear net
NETS = {
    "no skip": {"net": MLP(skip=False)},
    "two layers": {"net": MLP(hidden=[24, 12], activation="gelu")},
    "histograms": {"head": "mixed:continuous=binned"},
    "one Gaussian scale": {"head": "mixed:continuous=gaussian"},
    **{kind: {"bottleneck": kind} for kind in kinds("bottleneck") if kind not in OWN_NETS},
}


@pytest.mark.parametrize("name", NETS)
def test_one_embedding_for_all_masks_gives_what_masked_copies_give(name):
    training = TrainingConfig(steps=5, members=2)
    parts = {"training": training, "random_state": 0, **NETS[name]}
    model = Autoencoder(**parts).fit(TABLE).model_
    batch = model.modality.encode(ArrowRows(TABLE)).take(torch.arange(PASS_ROWS + 40) % ROWS)
    groups = [torch.from_numpy(group) for group in model.modality.mask_groups(GROUPS)]
    passes = MaskedPasses.of(model.network, groups)
    assert passes is not None
    deviance = torch.where(batch.observed, passes.deviance(batch), 0.0)
    torch.testing.assert_close(deviance, one_group_at_a_time(model, batch), rtol=1e-4, atol=1e-4)
    alone, _ = masked_deviance(model.modality, model.network.first_member(), batch)
    both, _ = masked_deviance(model.modality, model.network, batch)
    torch.testing.assert_close(alone, both[:1], rtol=1e-5, atol=1e-5)


def test_nets_of_other_kinds_have_passes_of_copies(model):
    groups = [torch.from_numpy(group) for group in model.modality.mask_groups(GROUPS)]
    linear = Autoencoder(net="linear", training=TrainingConfig(steps=5)).fit(TABLE).model_
    assert MaskedPasses.of(linear.network, groups) is None


@pytest.mark.parametrize("rows", [0, 1, 33])
def test_a_row_is_predicted_the_same_in_any_company(model, batch, rows):
    whole, _ = masked_deviance(model.modality, model.network, batch)
    some, observed = masked_deviance(model.modality, model.network, batch.take(slice(0, rows)))
    assert some.shape == whole[:, :rows].shape
    assert len(observed) == rows
    torch.testing.assert_close(some, whole[:, :rows], rtol=1e-6, atol=1e-6)


def test_some_features_of_a_row_are_decoded_as_among_all(model, batch):
    features = torch.tensor([0, 2, len(model.modality.layout) - 1])
    z = model.network.encode(batch).z
    some = model.network.decode(z, batch.observed, features).deviance(batch)
    whole = model.network.decode(z, batch.observed).deviance(batch)
    torch.testing.assert_close(some, whole[..., features])
