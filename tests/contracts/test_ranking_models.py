"""The contract of models that rank items: each registered one, and solved ones by brute force."""

import numpy as np
import pytest
from scipy import sparse

import keyhole.tasks.recommend.choose  # noqa: F401  (registers all kinds)
from keyhole.core.parts import build, kinds
from keyhole.errors import KeyholeError
from keyhole.tasks.recommend.base import NONE, best_items
from keyhole.tasks.recommend.factors import WeightedFactors
from keyhole.tasks.recommend.linear import SolvedLinear
from keyhole.tasks.recommend.low_rank import LowRank
from keyhole.tasks.recommend.simple import ItemNeighbours

SMALL = {  # settings that make a kind fast, or that it cannot do without
    "deep": {"steps": 20, "width": 8, "hidden": 16},
    "blend": {"first": {"kind": "linear"}, "second": {"kind": "item_knn"}},
}
SHAPES = {"more users": (60, 30), "more items": (30, 60)}
INVALID = [
    {"kind": "linear", "strength": 0.0}, {"kind": "linear", "strength": -1.0},
    {"kind": "low_rank", "factors": 0}, {"kind": "low_rank", "strength": 0.0},
    {"kind": "factors", "weight": 1.0}, {"kind": "factors", "rounds": 0},
    {"kind": "item_knn", "most": 0}, {"kind": "item_knn", "shrink": -1.0},
    {"kind": "deep", "code": "plane"}, {"kind": "deep", "width": 0},
    {"kind": "blend", "first": {"kind": "linear"}, "second": {"kind": "linear"}, "share": 1.5},
    {"kind": "blend", "first": {"kind": "linear"}, "second": {"kind": "x"}},
]  # fmt: skip
every_kind = pytest.mark.parametrize("kind", sorted(kinds("ranking")))
both_shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def lists_of(shape, seed=0, share=0.2):
    """Lists of two tastes, so that some items go together."""
    rng = np.random.default_rng(seed)
    users, items = np.indices(shape)
    together = (users % 2 == items % 2) * share * 1.5 + share * 0.25
    return sparse.csr_array((rng.random(shape) < together).astype(np.float32))


def empty_lists(count, items):
    return sparse.csr_array((count, items), dtype=np.float32)


def model_of(kind):
    return build("ranking", {"kind": kind, **SMALL.get(kind, {})})


@pytest.fixture(scope="module")
def fitted():
    """Each kind fitted to lists of each shape, once."""
    models = {}

    def of(kind, shape):
        if (kind, shape) not in models:
            models[kind, shape] = model_of(kind).fit(lists_of(shape), seed=3)
        return models[kind, shape]

    return of


@every_kind
@both_shapes
def test_scores_are_finite_and_one_for_each_user_and_item(fitted, kind, shape):
    for count in (1, 7, 40):
        lists = lists_of((count, shape[1]), seed=1)
        scores = fitted(kind, shape).scores(lists)
        assert scores.shape == (count, shape[1])
        assert np.isfinite(scores).all()


@every_kind
@both_shapes
def test_scores_of_a_list_do_not_depend_on_the_lists_beside_it(fitted, kind, shape):
    model, others = fitted(kind, shape), lists_of((100, shape[1]), seed=2)
    for row in (0, 50, 99):
        alone = others[[row]]
        first = sparse.csr_array(sparse.vstack([alone, others]))
        expected = model.scores(alone)[0]
        np.testing.assert_array_equal(model.scores(first)[0], expected)
        np.testing.assert_array_equal(model.scores(others)[row], expected)
        top, best = best_items(model, alone, shape[1])
        many_top, many_best = best_items(model, others, shape[1])
        np.testing.assert_array_equal(many_top[row], top[0])
        np.testing.assert_array_equal(many_best[row], best[0])


@every_kind
@both_shapes
def test_tensors_have_the_shapes_that_are_promised(fitted, kind, shape):
    model = fitted(kind, shape)
    tensors, shapes = model.tensors(), model.shapes(*shape)
    assert set(tensors) == set(shapes)
    for name, tensor in tensors.items():
        assert tensor.is_floating_point(), name
        assert len(tensor.shape) == len(shapes[name]), name
        for size, promised in zip(tensor.shape, shapes[name], strict=True):
            assert promised in (size, -1), name


@every_kind
@both_shapes
def test_a_model_from_its_recipe_and_tensors_gives_the_same_scores(fitted, kind, shape):
    model, lists = fitted(kind, shape), lists_of((9, shape[1]), seed=4)
    tensors = {name: tensor.clone().float() for name, tensor in model.tensors().items()}
    again = build("ranking", model.recipe()).restored(tensors, lists_of(shape))
    assert again.recipe() == model.recipe()
    np.testing.assert_array_equal(again.scores(lists), model.scores(lists))


@every_kind
@both_shapes
def test_an_empty_list_has_finite_scores(fitted, kind, shape):
    model, items = fitted(kind, shape), shape[1]
    assert np.isfinite(model.scores(empty_lists(3, items))).all()
    mixed = sparse.csr_array(sparse.vstack([lists_of((5, items)), empty_lists(1, items)]))
    alone = model.scores(empty_lists(1, items))[0]
    np.testing.assert_array_equal(model.scores(mixed)[5], alone)


@every_kind
@both_shapes
def test_no_list_has_no_scores(fitted, kind, shape):
    top, best = best_items(fitted(kind, shape), empty_lists(0, shape[1]), 5)
    assert top.shape == best.shape == (0, 5)


@every_kind
@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (1, 1), (40, 25), (25, 40)])
def test_one_item_one_user_or_lists_that_are_all_equal_can_be_fitted(kind, shape):
    whole = np.zeros(shape, np.float32)
    whole[:, : max(shape[1] // 2, 1)] = 1
    lists = sparse.csr_array(whole)
    model = model_of(kind).fit(lists)
    for some in (lists, empty_lists(2, shape[1])):
        assert np.isfinite(model.scores(some)).all()
    top, _ = best_items(model, lists, 3)
    seen = whole[0].sum()
    assert ((top == NONE) | (top >= seen)).all()
    again = build("ranking", model.recipe()).restored(model.tensors(), lists)
    np.testing.assert_array_equal(again.scores(lists), model.scores(lists))


@every_kind
def test_items_that_nobody_has_and_users_without_items_do_no_harm(kind):
    whole = lists_of((40, 20)).toarray()
    whole[:, 5] = whole[7] = 0
    model = model_of(kind).fit(sparse.csr_array(whole))
    assert np.isfinite(model.scores(sparse.csr_array(np.eye(20, dtype=np.float32)))).all()


@every_kind
def test_the_same_seed_gives_the_same_model(kind):
    lists = lists_of((60, 30))
    one, two = (model_of(kind).fit(lists, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.scores(lists), two.scores(lists))


@every_kind
def test_fitting_changes_neither_the_lists_nor_the_settings(kind):
    lists, model = lists_of((60, 30)), model_of(kind)
    before, recipe = lists.copy(), model.recipe()
    model.fit(lists)
    model.scores(lists)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(lists, name), getattr(before, name))
    assert model.recipe() == recipe


@every_kind
def test_memory_is_estimated_and_grows_with_the_catalogue(kind):
    cls = kinds("ranking")[kind]
    small, large = (cls.bytes_for(users=1_000, items=n, pairs=10_000) for n in (100, 100_000))
    assert 0 <= small <= large


@pytest.mark.parametrize("recipe", INVALID, ids=str)
def test_invalid_settings_are_refused(recipe):
    with pytest.raises(KeyholeError):
        build("ranking", recipe)


def dense_ease(x, strength, item_power):
    """The weights of EASE by a plain inverse."""
    counts = x.sum(0).clip(1) ** item_power
    inverse = np.linalg.inv(x.T @ x + strength * np.diag(counts / counts.mean()))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@both_shapes
@pytest.mark.parametrize("item_power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("powers", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (0.2, 0.5)])
def test_the_linear_model_is_the_closed_form(shape, item_power, powers):
    history = lists_of(shape)
    x = history.toarray().astype(np.float64)
    model = SolvedLinear(20.0, item_power, *powers).fit(history)
    users = x.sum(0).clip(1)
    new = lists_of((11, shape[1]), seed=6)
    weighted = new.toarray() * users ** -powers[0]
    expected = weighted @ dense_ease(x, 20.0, item_power) * users ** -powers[1]
    np.testing.assert_allclose(model.scores(new), expected, atol=2e-5)
    other = SolvedLinear(20.0, item_power).fit(history).reweighted(*powers, history)
    np.testing.assert_allclose(other.scores(new), model.scores(new), atol=1e-6)


@both_shapes
@pytest.mark.parametrize("item_power", [0.0, 0.5])
def test_the_low_rank_model_of_full_rank_is_the_linear_model(shape, item_power):
    history, new = lists_of(shape), lists_of((11, shape[1]), seed=6)
    low_rank = LowRank(min(shape), 20.0, item_power).fit(history)
    linear = SolvedLinear(20.0, item_power).fit(history)
    np.testing.assert_allclose(low_rank.scores(new), linear.scores(new), atol=2e-4)


def test_the_low_rank_model_stays_finite_where_a_list_is_all_that_is_known():
    history = sparse.csr_array(np.ones((3_000, 2), np.float32))
    for strength in (1e-2, 1e-6):
        assert np.isfinite(LowRank(2, strength).fit(history).scores(history[:3])).all()


@pytest.mark.parametrize("factors", [4, 40])
def test_codes_of_the_factorisation_are_weighted_ridge_solutions(factors):
    history = lists_of((60, 50), share=0.3)
    model = WeightedFactors(factors, weight=7.0, strength=3.0).fit(history)
    vectors = model.vectors.numpy().astype(np.float64)
    codes = model.codes(history)
    lengths = np.diff(history.indptr)
    assert lengths.min() < model.vectors.shape[1] or factors == 4
    for row in range(60):
        x = history[[row]].toarray()[0]
        weights = np.where(x > 0, 7.0, 1.0)
        system = vectors.T @ (weights[:, None] * vectors) + 3.0 * np.eye(vectors.shape[1])
        expected = np.linalg.solve(system, vectors.T @ (weights * x))
        np.testing.assert_allclose(codes[row], expected, atol=1e-4)


def test_item_neighbours_are_shrunk_cosines_of_the_nearest():
    history = lists_of((60, 30))
    x = history.toarray().astype(np.float64)
    shared = x.T @ x
    size = np.sqrt(np.diag(shared))
    cosine = shared / (np.outer(size, size) + 5.0)
    np.fill_diagonal(cosine, 0)
    every = ItemNeighbours(most=29, shrink=5.0).fit(history)
    np.testing.assert_allclose(every.scores(history), x @ cosine, atol=1e-5)
    few = ItemNeighbours(most=4, shrink=5.0).fit(history)
    np.testing.assert_allclose(few.values, np.sort(cosine)[:, :-5:-1], atol=1e-6)
    alone = few.scores(sparse.csr_array(np.eye(30, dtype=np.float32)))
    assert ((alone > 0).sum(0) <= 4).all()
    np.testing.assert_allclose(alone[alone > 0], cosine[alone > 0], atol=1e-6)


def test_damaged_neighbours_are_refused():
    history = lists_of((60, 30))
    model = ItemNeighbours(most=4).fit(history)
    for place in (-1.0, 30.0, 1e9, 0.5):
        tensors = {name: tensor.clone() for name, tensor in model.tensors().items()}
        tensors["places"][3, 1] = place
        with pytest.raises(KeyholeError, match="neighbours"):
            ItemNeighbours(most=4).restored(tensors, history)


def test_of_equal_scores_the_first_item_of_the_catalogue_is_better():
    class Flat:
        def scores(self, history):
            return np.zeros(history.shape, np.float32)

    top, _ = best_items(Flat(), empty_lists(3, 1_000), 5)  # pyright: ignore
    np.testing.assert_array_equal(top, np.tile(np.arange(5), (3, 1)))
    allowed = np.arange(1_000) % 100 == 7
    top, best = best_items(Flat(), empty_lists(1, 1_000), 12, allowed=allowed)  # pyright: ignore
    assert top[0, :10].tolist() == list(range(7, 1_000, 100))
    assert (top[0, 10:] == NONE).all()
    assert np.isnan(best[0, 10:]).all()
