"""Lists of items as a modality: what a softmax over a catalogue costs, and what a net learns."""

import numpy as np
import pytest
import torch
from scipy import sparse

from keyhole.autoencoder.fit import Callbacks, learn
from keyhole.checks import examine
from keyhole.checks.items import ItemEvidence
from keyhole.core.layout import Layout, Shape, Slot
from keyhole.errors import SettingError
from keyhole.modalities.interactions.interactions import (
    InteractionSchema,
    ListFeed,
    ListsOfItems,
    encoded,
)
from keyhole.modalities.prepared import Parts
from keyhole.model.bottlenecks import Variational
from keyhole.model.heads import Multinomial, items
from keyhole.model.nets import MLP, ItemBag
from keyhole.training import TrainingConfig
from keyhole.training.corruptions import ItemDropout

ITEMS = 12
LISTS = sparse.csr_array(
    np.array([[1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1], [0] * 12, [0, 0, 1] + [0] * 9], np.float32)
)


def likelihood(seed=None):
    """That of three random states; with a seed, as in a training step."""
    torch.manual_seed(0)
    head = Multinomial()
    head.bind(Shape(Layout((Slot("items", "items", "multinomial"),), items=ITEMS), 5))
    whole = head(torch.randn(1, 1, len(LISTS.indptr) - 1, 5), None)
    return whole if seed is None else head.sampled(whole, torch.Generator().manual_seed(seed))


def test_a_list_costs_the_sum_of_its_items_under_a_softmax_over_all():
    log_prob = likelihood().log_prob(encoded(LISTS)).detach()[0, 0, :, 0]
    log_soft = torch.log_softmax(likelihood().logits().detach(), -1)[0, 0]
    assert log_prob[0] == pytest.approx(float(log_soft[0, [0, 1, 4, 11]].sum()), rel=1e-5)
    assert log_prob[1] == 0
    assert log_prob[2] == pytest.approx(float(log_soft[2, 2]), rel=1e-5)


def test_a_large_catalogue_in_blocks_costs_the_same(monkeypatch):
    whole = likelihood().log_prob(encoded(LISTS))
    monkeypatch.setattr(items, "MAX_SOFTMAX", 5)
    monkeypatch.setattr(items, "BLOCK_ITEMS", 5)
    torch.testing.assert_close(likelihood().log_prob(encoded(LISTS)), whole)


def test_training_on_a_large_catalogue_samples_items_and_is_nearly_right(monkeypatch):
    whole = likelihood().log_prob(encoded(LISTS))
    monkeypatch.setattr(items, "MAX_SOFTMAX", 5)
    first, again, other = (likelihood(seed) for seed in (0, 0, 1))
    assert first.sampled is not None
    torch.testing.assert_close(first.sampled, again.sampled, atol=0, rtol=0)
    assert (first.sampled != other.sampled).any()
    # Each own item counts once more than it should: by up to log 2 where items are few.
    assert (first.log_prob(encoded(LISTS)) - whole).abs().max() < 4 * np.log(2)


def test_a_list_is_encoded_as_its_items_from_one_up():
    batch = encoded(LISTS)
    assert batch.items.tolist() == [[1, 2, 5, 12], [0, 0, 0, 0], [3, 0, 0, 0]]
    assert batch.observed[:, 0].tolist() == [True, False, True]


def test_every_list_comes_once_in_a_pass_and_a_step_is_a_function_of_its_number():
    feed = ListFeed(sparse.csr_array(np.eye(6, dtype=np.float32)), seed=0)
    batches = [feed.batch(step, 2, 1)[0] for step in range(3)]
    assert sorted(int(i) for b in batches for i in b.items.flatten()) == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(feed.batch(4, 2, 1)[0].items, feed.batch(4, 2, 1)[0].items)


def test_a_net_learns_which_items_go_together_and_its_checks_say_so():
    rng = np.random.default_rng(0)
    half = rng.random((300, 1)) < 0.5
    own = np.where(np.arange(40)[None] < 20, half, ~half)
    history = sparse.csr_array((own & (rng.random((300, 40)) < 0.4)).astype(np.float32))
    parts = Parts(
        Variational(width=4, beta=0.2), ItemBag([32]), Multinomial(), ItemDropout(0.5),
        TrainingConfig(200, batch=100, learning_rate=1e-2), InteractionSchema(),
    )  # fmt: skip
    callbacks = Callbacks(None, lambda event: None, lambda *data: None)
    model = learn(ListsOfItems(history), parts, 0, callbacks)
    assert model.evidence["popular_nats"] - model.evidence["nats_an_item"] > 0.4  # log 2 at best
    assert model.verdict.startswith("learned")
    visible = encoded(history[:50])
    probability = model.network(visible).likelihood.levels(0).detach()[0, 0]
    right = torch.from_numpy(own[:50])
    assert float((probability * right).sum(1).mean()) > 0.85


def test_a_net_that_knows_no_more_than_popularity_is_told_so():
    evidence = ItemEvidence(lists=9, items=9, width=2, used=0, nats_an_item=3.0, popular_nats=2.5)
    findings = examine(evidence)
    assert [finding.code for finding in findings] == ["KH017", "KH018"]
    assert evidence.verdict(findings).startswith("look again")


def test_a_net_of_tables_takes_no_lists_and_a_net_of_lists_no_tables():
    lists = ListsOfItems(LISTS)
    parts = Parts(
        Variational(width=2), MLP(), Multinomial(), ItemDropout(), TrainingConfig(2),
        InteractionSchema(),
    )  # fmt: skip
    callbacks = Callbacks(None, lambda event: None, lambda *data: None)
    with pytest.raises(SettingError, match="is not for lists of items"):
        learn(lists, parts, 0, callbacks)
