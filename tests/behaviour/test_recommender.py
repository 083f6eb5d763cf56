"""What the Recommender answers, and what it says to bad input."""

import datetime
import json
import re
import time
import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from safetensors.torch import load_file
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from benchmarks.mutants import manifest_of, seal
from keyhole import AnomalyDetector, Recommender
from keyhole.core.environment import seed_from
from keyhole.errors import BundleError, DataError, KeyholeError, KeyholeWarning, SettingError
from keyhole.modalities import InteractionSchema
from keyhole.store.bundle import write_tensors
from keyhole.tasks.recommend import base
from keyhole.tasks.recommend.choose import NETS, choose, refitted
from keyhole.tasks.recommend.folds import Fold, folds_of
from keyhole.tasks.recommend.linear import SolvedLinear
from keyhole.tasks.recommend.splits import fold_in

LINEAR = "linear:strength=5"


def interactions(users=60, items=30, seed=0):
    """Rows of users of two tastes: user u mostly takes items of its parity."""
    rng = np.random.default_rng(seed)
    user, item = np.indices((users, items))
    share = np.where(user % 2 == item % 2, 0.35, 0.04)
    user, item = np.nonzero(rng.random((users, items)) < share)
    return pd.DataFrame({"user": user + 100, "item": item + 7})


def fitted(frame=None, net=LINEAR, **settings):
    settings = {"random_state": 0, **settings}
    return Recommender(net, **settings).fit(interactions() if frame is None else frame)


def items_of(frame, user):
    return frame["item"][frame["user"] == user].tolist()


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def chosen():
    return fitted(net="auto")


def same(one, two):
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_recommendations_are_ranked_from_one_and_best_first(model):
    top = model.recommend([100, 101], k=4)
    assert top.columns.tolist() == ["user", "rank", "item", "score"]
    assert top["user"].tolist() == [100] * 4 + [101] * 4
    assert top["rank"].tolist() == [1, 2, 3, 4] * 2
    assert (top.groupby("user")["score"].diff().dropna() <= 0).all()
    assert top["item"].dtype == np.int64
    own = set(items_of(interactions(), 100))
    assert not own & set(items_of(top, 100))


def test_users_get_items_of_their_taste(chosen):
    top = chosen.recommend(list(range(100, 160)), k=5)
    assert ((top["item"] - 7) % 2 == top["user"] % 2).mean() > 0.7
    popular = fitted(net="popularity").recommend(list(range(100, 160)), k=5)
    assert ((popular["item"] - 7) % 2 == popular["user"] % 2).mean() < 0.4
    assert chosen.why_
    assert chosen.verdict_.startswith(("learned", "not good enough"))
    assert set(chosen.evaluation_.measures) == {"this model", "popularity", "item-kNN"}


@pytest.mark.parametrize("name", ["model", "chosen"])
def test_a_known_user_and_the_same_history_get_the_same_list_to_the_last_item(name, request):
    recommender, frame = request.getfixturevalue(name), interactions()
    for user in (100, 117, 159):
        known = recommender.recommend([user], k=30)
        history = recommender.recommend([items_of(frame, user)], k=30)
        same(known.drop(columns="user"), history.drop(columns="user"))
        among = recommender.recommend(list(range(100, 160)), k=30)
        same(among[among["user"] == user].reset_index(drop=True), known)


def test_the_order_of_rows_does_not_matter(model):
    frame = interactions()
    shuffled = fitted(frame.sample(frac=1, random_state=1))
    same(shuffled.recommend([100, 131]), model.recommend([100, 131]))
    rows = frame[frame["user"].isin([100, 101])]
    same(model.recommend(rows), model.recommend(rows.sample(frac=1, random_state=2)))


def test_a_repeated_row_counts_once(model):
    frame = interactions()
    again = fitted(pd.concat([frame, frame[:50], frame[:50]]))
    same(again.recommend([100]), model.recommend([100]))


@pytest.mark.parametrize(
    "name",
    [
        lambda i: i,
        lambda i: -i,
        lambda i: f"{i:05d}",
        lambda i: 123_456_789_012_345_678 + i,
        lambda i: 9_223_372_036_854_775_000 + i,
        lambda i: f'a,"b"\n{i}',
        lambda i: f"  Zoë {i} 日本 😀",
        lambda i: f"{i}.50",
        lambda i: f"=cmd({i})",
    ],
)
def test_identifiers_come_back_as_they_were(name, tmp_path):
    frame = interactions(40, 12)
    for column in frame:
        frame[column] = [name(i) for i in frame[column].tolist()]
    recommender = fitted(frame)
    users = frame["user"].unique().tolist()
    recommender.save(tmp_path / "m")
    for one in (recommender, Recommender.load(tmp_path / "m")):
        top = one.recommend(users, k=3)
        assert sorted(set(top["user"])) == sorted(users)
        assert set(top["item"]) <= set(frame["item"])
        assert {type(v) for v in top["item"].tolist()} == {type(frame["item"].tolist()[0])}
        assert set(one.embed()["item"]) == set(frame["item"])
        similar = one.similar_items(frame["item"][0])
        assert set(similar["item"]) == {frame["item"][0]}


def test_floats_of_pandas_beside_gaps_are_whole_numbers(model):
    frame = interactions().astype(float)
    gaps = pd.DataFrame({"user": [np.nan, 100.0], "item": [8.0, np.nan]})
    recommender = fitted(pd.concat([frame, gaps]))
    same(recommender.recommend([100.0, 101.0]), model.recommend([100, 101]))
    same(recommender.recommend(["100", "101"]), model.recommend([100, 101]))


def test_floats_that_lost_digits_are_refused():
    with pytest.raises(DataError, match="lost digits"):
        fitted(pd.DataFrame({"user": [1e17, 2e17], "item": [1, 2]}))


def test_identifiers_of_mixed_types_become_texts():
    frame = interactions(30, 10).astype(object)
    frame["item"] = [f"x{i}" if i % 2 else i for i in frame["item"]]
    recommender = fitted(frame)
    top = recommender.recommend([100, 101], k=3)
    assert all(isinstance(item, str) for item in top["item"])
    assert recommender.recommend([[8, "x9"]], k=2)["item"].nunique() == 2


@pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
def test_users_asked_for_come_back_as_those_of_training(model):
    assert model.recommend([100, "101", 102.0], k=1)["user"].tolist() == [100, 101, 102]
    assert model.recommend([100, "nobody"], k=1)["user"].tolist() == ["100", "nobody"]
    assert model.recommend(pd.DataFrame({"user": [100, None]}), k=1)["user"][0] == 100
    text = fitted(interactions().astype(str))
    gap = text.recommend(pd.DataFrame({"user": ["100", None]}), k=1)
    assert gap["user"][0] == "100"
    assert text.recommend([100], k=1)["user"].tolist() == ["100"]
    assert len(text.recommend(["100", None], k=1)) == 2


def test_lists_of_items_are_named_by_their_position(model):
    lists = [[8, 10], [9], [12, 14, 16]]
    top = model.recommend(lists, k=2)
    assert top["user"].tolist() == [0, 0, 1, 1, 2, 2]
    same(model.recommend(np.array(lists[:1])), model.recommend(lists[:1]))
    assert model.recommend(100)["user"].tolist() == [100] * 10
    assert len(model.recommend([])) == 0


def popular_items(count):
    sizes = interactions()["item"].value_counts().reset_index()
    order = sizes.sort_values(["count", "item"], ascending=[False, True], kind="stable")
    return order["item"].tolist()[:count]


def test_an_empty_history_and_an_unknown_user_get_popular_items(model):
    empty = model.recommend([[], [8]], k=4)
    assert items_of(empty, 0) == popular_items(4)
    with pytest.warns(KeyholeWarning, match="1 of 2 users are unknown, such as '999'"):
        unknown = model.recommend([100, 999], k=4)
    assert items_of(unknown, 999) == popular_items(4)
    assert items_of(unknown, 100) == items_of(model.recommend([100], k=4), 100)
    with pytest.warns(KeyholeWarning, match="1 of 1 users"):
        assert (
            items_of(model.recommend([999], k=3, deny=popular_items(1)), 999)
            == (popular_items(4)[1:])
        )


def test_unknown_items_of_a_history_are_counted(model):
    with pytest.warns(KeyholeWarning, match="2 items of the lists are unknown"):
        top = model.recommend([[8, 1_000], [2_000]], k=2)
    assert items_of(top, 0) == model.recommend([[8]], k=2)["item"].tolist()
    assert items_of(top, 1) == popular_items(2)
    rows = pd.DataFrame({"user": ["a", "a", "b"], "item": [8, 1_000, 9]})
    with pytest.warns(KeyholeWarning, match="1 rows with items that training did not have"):
        assert model.recommend(rows, k=1)["user"].tolist() == ["a", "b"]


def test_seen_items_are_recommended_only_if_asked(model):
    own = set(items_of(interactions(), 100))
    every = model.recommend([100], k=30, exclude_seen=False)
    assert sorted(every["item"]) == list(range(7, 37))
    assert sorted(model.recommend([100], k=30)["item"]) == sorted(set(range(7, 37)) - own)


def test_items_can_be_allowed_and_denied(model):
    kwargs = {"exclude_seen": False, "k": 30}
    assert sorted(model.recommend([100], allow=[8, 9, 10], **kwargs)["item"]) == [8, 9, 10]
    assert sorted(model.recommend([100], allow=[8, 9], deny=9, **kwargs)["item"]) == [8]
    first = model.recommend([100], k=1)["item"][0]
    assert first not in model.recommend([100], k=30, deny=[first])["item"].tolist()
    with pytest.warns(KeyholeWarning, match="1 items to allow or deny are unknown"):
        assert model.recommend([100], allow=["8", "x"], **kwargs)["item"].tolist() == [8]
    for nothing in ({"deny": list(range(7, 37))}, {"allow": []}):
        with pytest.warns(KeyholeWarning, match="no item is left to recommend"):
            top = model.recommend([100, 101], k=3, **nothing)
        assert top.columns.tolist() == ["user", "rank", "item", "score"]
        assert len(top) == 0


def test_k_above_the_catalogue_gives_what_there_is(model):
    own = len(items_of(interactions(), 100))
    assert len(model.recommend([100], k=10**9)) == 30 - own
    assert len(model.similar_items([8, 9], k=10**9)) == 2 * 29


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3", None])
def test_k_is_a_whole_number_from_one(model, k):
    for answer in (
        lambda: model.recommend([100], k=k),
        lambda: model.similar_items(8, k=k),
        lambda: model.explain(100, 8, k=k),
    ):
        with pytest.raises(SettingError, match="whole number from 1 up"):
            answer()
    assert len(model.recommend([100], k=np.int64(2))) == 2


def test_similar_items_share_the_taste_and_never_hold_the_item_itself(model):
    similar = model.similar_items(list(range(7, 37)), k=5)
    assert similar.columns.tolist() == ["item", "rank", "similar", "score"]
    assert (similar["item"] != similar["similar"]).all()
    assert (similar["item"] % 2 == similar["similar"] % 2).mean() > 0.85
    assert similar["score"].between(-1.0001, 1.0001).all()
    assert similar.groupby("item")["rank"].apply(list).tolist() == [[1, 2, 3, 4, 5]] * 30
    for item in (1_000, "x", None):
        with pytest.raises(DataError, match="was not in training"):
            model.similar_items(item)


def pairs_of_items():
    """Items 2i and 2i + 1 go together; all else is by chance."""
    rng = np.random.default_rng(3)
    rows = [
        (user, item)
        for user in range(80)
        for pair in rng.choice(10, 3, replace=False)
        for item in (2 * pair, 2 * pair + 1)
        if rng.random() < 0.9
    ]
    return pd.DataFrame(rows, columns=["user", "item"])


@pytest.mark.parametrize("net", ["linear", "item_knn", "low_rank", "factors"])
def test_the_item_that_causes_a_recommendation_explains_it_first(net):
    recommender = fitted(pairs_of_items(), net=net)
    for item in (0, 6, 13):
        partner = item ^ 1
        others = [i for i in range(0, 20, 3) if i not in (item, partner)]
        reasons = recommender.explain([*others, partner], item, k=20)
        assert reasons["item"][0] == partner
        assert (reasons["change"].diff().dropna() <= 0).all()
        assert sorted(reasons["item"]) == sorted([*others, partner])


def test_what_explains_is_what_the_score_loses_without_it(model):
    history = items_of(interactions(), 100)
    reasons = model.explain(100, 9, k=len(history))
    same(reasons, model.explain(history, 9, k=len(history)))
    without = [i for i in history if i != reasons["item"][0]]
    kwargs = {"allow": [9], "exclude_seen": False}
    scores = [model.recommend([h], **kwargs)["score"][0] for h in (history, without)]
    assert reasons["change"][0] == pytest.approx(scores[0] - scores[1], abs=1e-6)
    assert len(model.explain([], 9)) == 0
    with pytest.warns(KeyholeWarning, match="unknown") as caught:
        assert len(model.explain(999, 9)) == 0
    assert len(caught) == 1
    with pytest.raises(DataError, match="'1000' was not in training"):
        model.explain(100, 1_000)


def test_reasons_of_a_long_history_are_those_of_one_block(model, monkeypatch):
    history = items_of(interactions(), 100)
    whole = model.explain(history, 9, k=len(history))
    monkeypatch.setattr(base, "BLOCK_SCORES", 1)
    monkeypatch.setattr(base, "EVEN_USERS", 2)
    blocks = []
    scores = type(model.fitted_.model).scores
    monkeypatch.setattr(
        type(model.fitted_.model), "scores", lambda self, x: blocks.append(x) or scores(self, x)
    )
    parts = model.explain(history, 9, k=len(history))
    assert sorted(parts["item"]) == sorted(whole["item"])
    np.testing.assert_allclose(parts["change"], whole["change"], atol=1e-6)
    assert len(blocks) > 3
    assert max(block.shape[0] for block in blocks) == 2


def made_users(seed, users):
    """Users of two out of ten genres, among 100 items."""
    rng, genre = np.random.default_rng(seed), np.arange(100) % 10
    lists = np.zeros((users, 100), np.float32)
    for own in lists:
        liked = np.isin(genre, rng.choice(10, 2, replace=False))
        share = np.where(liked, 1.0, 0.05) / np.arange(3, 103) ** 0.8
        own[rng.choice(100, rng.integers(6, 16), replace=False, p=share / share.sum())] = 1
    return sparse.csr_array(lists)


def test_where_few_users_choose_all_but_those_that_judge_take_turns():
    history = made_users(0, 60)
    choosing, training = np.arange(6), np.arange(6, 54)
    folds = folds_of(history, choosing, training, seed=0)
    assert [fold.history.shape[0] + fold.given.shape[0] for fold in folds] == [54] * 5
    judged = sparse.vstack([fold.given + fold.wanted for fold in folds])
    rows = {row.tobytes() for row in judged.toarray()}
    assert rows == {row.tobytes() for row in history[:54].toarray()}
    (fold,) = folds_of(history, np.arange(25), np.arange(25, 60), seed=0)
    assert (fold.history != history[25:]).nnz == 0
    assert (fold.given + fold.wanted != history[:25]).nnz == 0


def test_of_few_users_the_strength_is_no_worse_for_fresh_users_than_by_a_tenth_of_them():
    """Each seed has 60 users to fit to; 400 others judge both choices. Takes some seconds."""
    gains = []
    for seed in range(6):
        history = made_users(seed, 460)
        own, fresh = history[:60], history[60:]
        judge = Fold(own, *fold_in(fresh, seed=5))
        order = np.random.default_rng(seed).permutation(60)
        choosing, training = np.sort(order[:6]), np.sort(order[6:54])
        tenth = Fold(own[training], *fold_in(own[choosing], seed=0))
        models = [
            choose("linear", folds, seed=0).model
            for folds in ([tenth], folds_of(own, choosing, training, seed=0))
        ]
        before, after = (
            np.nanmean(judge.per_user(refitted(model, own, seed=0))) for model in models
        )
        gains.append(after - before)
    assert np.mean(gains) > -0.002


def test_vectors_of_items_and_users(model):
    items, users = model.embed(), model.embed([100, 101])
    width = items.shape[1] - 1
    assert items["item"].tolist() == list(range(7, 37))
    assert users["user"].tolist() == [100, 101]
    assert users.columns[1:].tolist() == [f"embedding_{i}" for i in range(width)]
    history = model.embed([items_of(interactions(), 100)])
    np.testing.assert_array_equal(history.iloc[0, 1:], users.iloc[0, 1:])
    assert np.isfinite(items.iloc[:, 1:].to_numpy()).all()


def test_a_partial_fit_is_a_fit_to_all_of_it(model):
    frame = interactions()
    part = fitted(frame[frame["user"] < 140])
    vectors = part.embed()
    part.partial_fit(frame[frame["user"] >= 140])
    same(part.recommend(list(range(100, 160)), k=30), model.recommend(list(range(100, 160)), k=30))
    after = part.embed()
    assert after["item"].tolist() == vectors["item"].tolist()
    before, after = (f.iloc[:, 1:].to_numpy() for f in (vectors, after))
    near = np.linalg.norm(after - before) / np.linalg.norm(before)
    fresh = np.linalg.norm(model.embed().iloc[:, 1:].to_numpy() - before) / np.linalg.norm(before)
    assert near < 0.6
    assert near < 0.7 * fresh


def test_a_partial_fit_adds_new_users_and_items(model):
    recommender = fitted()
    new = pd.DataFrame({"user": [500, 500, 100], "item": [900, 8, 900]})
    recommender.partial_fit(new)
    assert 900 in recommender.recommend([500], k=40, exclude_seen=False)["item"].tolist()
    assert 900 not in recommender.recommend([500], k=40)["item"].tolist()
    before = model.recommend([120])
    recommender.partial_fit(new[:0])
    assert recommender.recommend([100])["item"].dtype == np.int64
    same(model.recommend([120]), before)
    assert (
        Recommender(LINEAR, random_state=0)
        .partial_fit(interactions())
        .recommend([100])
        .equals(model.recommend([100]))
    )


def test_a_trained_net_stays_as_it_is_until_there_are_new_items():
    recommender = fitted(net="deep:steps=20,width=8,hidden=16")
    before, evaluation = recommender.recommend([[8, 10]], k=5), recommender.evaluation_
    recommender.partial_fit(pd.DataFrame({"user": [900], "item": [8]}))
    assert recommender.evaluation_ is evaluation  # it has seen the users who would judge it now
    same(recommender.recommend([[8, 10]], k=5), before)
    recommender.partial_fit(pd.DataFrame({"user": [900], "item": [77]}))
    assert recommender.fitted_.model.scores(recommender.fitted_.interactions.history).shape == (
        61, 31
    )  # fmt: skip


def test_an_evaluation_of_known_and_of_unknown_users(model):
    frame = interactions()
    later = pd.concat(
        [
            interactions(60, seed=9)[lambda f: f["user"] < 120],
            interactions(20, seed=5).assign(user=lambda f: f["user"] + 1_000),
        ]
    )
    evaluation = model.evaluate(later)
    assert evaluation.users == 40
    own, popular = (evaluation.measures[n]["ndcg@100"] for n in ("this model", "popularity"))
    assert own.mean > popular.mean
    assert own.low <= own.mean <= own.high
    assert len(evaluation.lines()) > 5
    assert json.loads(json.dumps(evaluation.to_json()))["users"] == 40
    for known in (
        frame,
        frame[:0],
        pd.DataFrame({"user": [900], "item": [8]}),
        pd.DataFrame({"user": [900, 900], "item": [8_000, 9_000]}),
    ):
        with pytest.raises(DataError, match="no user can be evaluated"):
            model.evaluate(known)


def test_a_saved_recommender_gives_the_same_answers(chosen, tmp_path):
    chosen.save(tmp_path / "m")
    loaded = Recommender.load(tmp_path / "m")
    users = list(range(100, 160))
    same(loaded.recommend(users, k=30), chosen.recommend(users, k=30))
    same(loaded.embed(), chosen.embed())
    same(loaded.explain(100, 9), chosen.explain(100, 9))
    assert loaded.verdict_ == chosen.verdict_
    assert loaded.why_ == chosen.why_
    assert loaded.evaluation_.lines() == chosen.evaluation_.lines()
    assert loaded.get_params()["random_state"] == 0
    loaded.partial_fit(interactions()[:5])
    same(loaded.recommend(users), fitted_again(chosen).recommend(users))
    loaded.save(tmp_path / "m")


def fitted_again(recommender):
    """The same settings once more on the same lists."""
    history = recommender.fitted_.interactions.history
    again = clone(recommender)
    again.__dict__.update(recommender.__dict__)
    model = refitted(recommender.fitted_.model, history, seed_from(recommender.random_state))
    again.fitted_ = type(recommender.fitted_)(
        recommender.fitted_.interactions, recommender.fitted_.columns, model,
        recommender.fitted_.embedding,
    )  # fmt: skip
    return again


@pytest.mark.parametrize(
    "net", [*NETS[1:], "blend", SolvedLinear(7.0), "linear:strength=7.0,item_power=0.5"], ids=str
)
def test_each_kind_of_net_is_saved_with_its_settings(net, tmp_path):
    if net in ("variational", "denoising", "composite"):
        net = f"deep:steps=20,width=8,hidden=16,code={net.replace('denoising', 'plain')}"
    if net == "blend":
        from keyhole.tasks.recommend.blend import Blend

        net = Blend({"kind": "linear"}, {"kind": "item_knn"}, 0.3)
    recommender = fitted(net=net)
    recommender.save(tmp_path / "m")
    loaded = Recommender.load(tmp_path / "m")
    same(loaded.recommend([100, [8, 9]][:1], k=30), recommender.recommend([100], k=30))
    loaded.save(tmp_path / "n")
    again = clone(loaded)
    assert isinstance(again.net, str)
    if not isinstance(net, str) and net.kind == "linear":
        assert again.fit(interactions()).fitted_.model.strength == 7.0


def test_the_same_seed_gives_the_same_recommender(chosen):
    one, two = chosen, fitted(net="auto")
    same(one.recommend([100, 101], k=30), two.recommend([100, 101], k=30))
    same(one.embed(), two.embed())
    assert one.compared_ == two.compared_
    assert one.evaluation_.to_json() == two.evaluation_.to_json()


def test_it_is_an_estimator_of_scikit_learn(tmp_path):
    net = SolvedLinear(9.0)
    recommender = Recommender(net, random_state=1)
    recommender.fit(interactions())
    assert vars(net) == {"strength": 9.0, "item_power": 0.0, "input_power": 0.0,
                         "popular_power": 0.0}  # fmt: skip
    again = clone(recommender)
    assert not hasattr(again, "fitted_")
    assert again.get_params(deep=False) == {
        "net": again.net, "random_state": 1, "schema": None, "verbose": False,
    }  # fmt: skip
    again.set_params(net="popularity", random_state=np.int64(4)).fit(interactions())
    assert (
        again.recommend([[8]], k=3)["item"].tolist() == [i for i in popular_items(4) if i != 8][:3]
    )
    again.save(tmp_path / "m")
    assert Recommender.load(tmp_path / "m").random_state == 4
    for answer in ("recommend", "evaluate", "similar_items"):
        with pytest.raises(Exception, match="not fitted"):
            getattr(Recommender(), answer)([1])


def test_a_second_fit_takes_the_columns_of_its_schema():
    frame = interactions().assign(customer=lambda f: f["user"] + 5_000)
    recommender = fitted(frame)
    recommender.set_params(schema=InteractionSchema("customer")).fit(frame)
    assert recommender.fitted_.columns.user == "customer"
    assert recommender.fitted_.interactions.users.texts[0] == "5100"


@pytest.mark.parametrize("kind", ["polars", "arrow", "pandas"])
def test_the_frame_that_comes_back_is_of_the_kind_that_was_given(model, kind):
    frame = interactions()
    make = {"polars": pl.from_pandas, "pandas": lambda f: f,
            "arrow": lambda f: pa.Table.from_pandas(f, preserve_index=False)}[kind]  # fmt: skip
    recommender = fitted(make(frame))
    top = recommender.recommend(make(frame[frame["user"] < 103]), k=3)
    users = recommender.recommend(make(frame[["user"]][frame["user"] < 103].drop_duplicates()), 3)
    vectors = recommender.embed(make(frame[frame["user"] < 103]))
    for answer in (top, users, vectors):
        assert type(answer) is type(make(frame))
    expected = model.recommend([100, 101, 102], k=3)
    for answer in (top, users):
        plain = answer if kind == "pandas" else answer.to_pandas()
        same(plain, expected)


def test_interactions_come_in_any_table_or_file(model, tmp_path):
    frame = interactions()
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    expected = model.recommend([100, 101])
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for given in (pl.from_pandas(frame).lazy(), table.to_batches()[0], tmp_path / "rows.csv",
                  str(tmp_path / "rows.parquet"), frame.astype(str), frame.astype("category"),
                  frame.astype("Int64"), frame.set_index("user", drop=False)):  # fmt: skip
        top = fitted(given).recommend([100, 101])
        assert top["item"].astype(int).tolist() == expected["item"].tolist()
        np.testing.assert_allclose(top["score"], expected["score"], atol=1e-6)
    same(model.recommend(str(tmp_path / "rows.csv"), k=3), model.recommend(frame, k=3))
    assert model.evaluate(interactions(seed=3)).users > 0


def test_a_sparse_matrix_is_taken_by_position():
    frame = interactions()
    matrix = sparse.csr_array((np.ones(len(frame)), (frame["user"] - 100, frame["item"] - 7)))
    before = matrix.copy()
    recommender = fitted(matrix)
    top = recommender.recommend([0, 1], k=5)
    expected = fitted().recommend([100, 101], k=5)
    assert (top["item"] + 7).tolist() == expected["item"].tolist()
    same(recommender.recommend(matrix[:2], k=5), top)
    zeros = sparse.csr_array(matrix[:2])
    zeros.data[0] = 0  # a zero that is stored is no interaction
    assert zeros.indices[0] in recommender.recommend(zeros, k=30)["item"][:30].tolist()
    assert recommender.evaluate(sparse.csr_array(interactions_matrix(5))).users > 0
    for wrong in (matrix[:, :5], sparse.csr_array((2, 31))):
        for answer in (recommender.recommend, recommender.evaluate):
            with pytest.raises(DataError, match="but training had 30 items"):
                answer(wrong)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(matrix, name), getattr(before, name))
    for other in (matrix.astype(bool), matrix.astype(int), sparse.coo_matrix(matrix)):
        same(fitted(other).recommend([0, 1], k=5), top)


def interactions_matrix(seed):
    frame = interactions(seed=seed)
    rows = (np.ones(len(frame)), (frame["user"] - 100, frame["item"] - 7))
    return sparse.csr_array(rows, shape=(60, 30))


def test_a_fit_changes_neither_the_frame_nor_the_schema():
    frame = interactions().assign(rating=3.0)
    before, schema = frame.copy(), InteractionSchema(value="rating", above=2)
    recommender = fitted(frame, schema=schema)
    recommender.recommend(frame)
    recommender.evaluate(interactions(seed=3).assign(rating=4.0))
    same(frame, before)
    assert vars(schema)["value"] == "rating"
    assert vars(schema)["user"] is None
    assert recommender.fitted_.columns.user == "user"


def test_a_row_counts_above_the_value(model):
    frame = interactions().assign(rating=5)
    low = interactions(seed=8).assign(rating=3)
    rated = pd.concat([frame, low, low.assign(rating=np.nan), low.assign(rating=-4)])
    same(fitted(rated, schema=InteractionSchema(above=3.0)).recommend([100]),
         model.recommend([100]))  # fmt: skip


def test_values_that_are_not_positive_or_missing_are_left_out(model):
    frame = interactions().assign(plays=2)
    low = interactions(seed=8)
    rated = pd.concat([frame, *(low.assign(plays=v) for v in (0, -3, np.nan, -np.inf))])
    same(fitted(rated).recommend([100]), model.recommend([100]))


@pytest.mark.parametrize(
    "frame",
    [
        interactions().assign(rating=0),
        interactions().assign(count=-2),
        interactions().assign(value=np.nan),
        interactions().assign(stars="good"),
        interactions()[:0],
        pd.DataFrame({"user": [None, "a"], "item": ["b", None]}),
        sparse.csr_array((3, 4)),
        sparse.csr_array((0, 0)),
    ],
)
def test_where_no_interaction_is_left_it_says_why(frame):
    with pytest.raises(DataError, match="no interaction is left: each row needs a user"):
        fitted(frame)


def test_columns_that_are_not_named_like_users_and_items_are_asked_for():
    frame = interactions().rename(columns={"user": "who", "item": "what"})
    with pytest.raises(DataError, match=r"user=COLUMN \(--user COLUMN\).*'who', 'what'"):
        fitted(frame)
    with pytest.raises(DataError, match=r"item=COLUMN \(--item COLUMN\).*'who', 'what'"):
        fitted(frame, schema=InteractionSchema("who"))
    named = fitted(frame, schema=InteractionSchema("who", "what"))
    assert len(named.recommend([100], k=3)) == 3
    with pytest.raises(DataError, match="whom"):
        fitted(frame, schema=InteractionSchema("whom", "what"))


@pytest.mark.parametrize("names", [("userId", "movieId"), ("customer_id", "sku"),
                                   ("User ID", "Artist"), ("session", "track_id")])  # fmt: skip
def test_columns_are_guessed_by_their_names(names):
    frame = interactions().set_axis(list(names), axis=1).assign(timestamp=5, other="x")
    columns = fitted(frame).fitted_.columns
    assert (columns.user, columns.item, columns.time) == (*names, "timestamp")


def test_times_may_be_numbers_dates_or_texts_and_others_are_refused(model):
    frame = interactions()
    day = datetime.datetime(2024, 1, 1)
    for times in (range(len(frame)), [day] * len(frame), ["2024-01-01T10:00:00"] * len(frame),
                  [None] * len(frame), ["1700000000"] * len(frame)):  # fmt: skip
        same(fitted(frame.assign(time=list(times))).recommend([100]), model.recommend([100]))
    with pytest.raises(DataError, match="column 'time' holds an invalid time"):
        fitted(frame.assign(time="soon"))


@pytest.mark.parametrize("net", NETS[1:])
@pytest.mark.parametrize("shape", [(1, 30), (60, 1), (1, 1), (2, 2)])
def test_one_user_one_item_or_a_handful_can_be_fitted(net, shape, tmp_path):
    if net in ("variational", "denoising", "composite"):
        net = f"deep:steps=20,width=8,hidden=16,code={net.replace('denoising', 'plain')}"
    users, items = (part.ravel() for part in np.indices(shape))
    recommender = fitted(pd.DataFrame({"user": users, "item": items}), net=net)
    assert "not evaluated" in recommender.verdict_ or "NDCG" in recommender.verdict_
    with pytest.warns(KeyholeWarning, match="no item is left"):
        assert len(recommender.recommend([0])) == 0
    assert len(recommender.recommend([[]], k=5)) == min(5, shape[1])
    recommender.save(tmp_path / "m")
    Recommender.load(tmp_path / "m")
    if min(shape) == 1:
        with pytest.raises(SettingError, match="items have no vectors"):
            recommender.similar_items(0)


def test_a_million_rows_of_one_pair_are_one_interaction():
    frame = pd.DataFrame({"user": np.full(10**6, 3), "item": np.full(10**6, 4)})
    recommender = fitted(frame)
    assert recommender.fitted_.interactions.history.nnz == 1
    assert recommender.fitted_.interactions.counts.repeated == 10**6 - 1


@pytest.mark.parametrize(
    ("net", "message"),
    [("lineer", "choose from auto, linear"), ("linear:strengh=3", "strengh"),
     ("linear:strength=0", "above zero"), ("linear:strength=x", "strength"), (None, "choose from"),
     (3, "choose from"), (SolvedLinear(-1.0), "above zero"), ("blend", "blend")],
)  # fmt: skip
def test_an_unknown_net_is_refused_before_anything_is_read(net, message):
    with pytest.raises(SettingError, match=message):
        Recommender(net).fit("missing.csv")


@pytest.mark.parametrize("given", [3, [[1, 2]], {"a": 1}, np.eye(3)])
def test_what_is_no_table_of_interactions_is_refused(given):
    with pytest.raises(DataError, match="expected a frame or a file of interactions"):
        fitted(given)


@pytest.mark.parametrize("schema", [3, "user", {"user": "user"}])
def test_a_schema_of_another_kind_is_refused(schema):
    with pytest.raises(SettingError, match="InteractionSchema"):
        fitted(schema=schema)


def test_users_and_lists_in_one_list_are_refused(model):
    with pytest.raises(DataError, match="got some of each"):
        model.recommend([100, [8, 9]])


def test_too_few_users_to_choose_by_never_take_more_memory_than_there_is(monkeypatch):
    from keyhole.tasks.recommend import learn

    frame = pd.DataFrame({"user": np.arange(1_000), "item": np.arange(1_000)})
    monkeypatch.setattr(learn, "free_memory", lambda: 20e6)
    with pytest.raises(SettingError, match="use net='low_rank'"):
        fitted(frame, net="linear")
    assert fitted(frame, net="auto").fitted_.model.kind == "low_rank"


def test_verbose_tells_columns_stages_and_the_verdict(capsys):
    fitted(verbose=True)
    text = "".join(capsys.readouterr())
    assert "user: user, item: item" in text
    assert "60 users and 30 items" in text
    assert "verdict" in text


@pytest.fixture
def bundle(model, tmp_path):
    model.save(tmp_path / "m")
    return tmp_path / "m"


def refused_or_works(bundle):
    with suppress(BundleError), warnings.catch_warnings():
        warnings.simplefilter("ignore", KeyholeWarning)
        loaded = Recommender.load(bundle)
        loaded.recommend([100, "x"])
        loaded.recommend(interactions()[:5])
        assert np.isfinite(loaded.recommend([[8, 9]], exclude_seen=False)["score"]).all()
        loaded.similar_items(8)
        loaded.explain(100, 8)
        loaded.embed([100])
        assert loaded.verdict_
        assert loaded.evaluation_.lines()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("columns",), {"user": 3, "item": "item"}), (("columns",), {"user": "user"}),
        (("columns", "above"), "x"), (("columns", "time"), "user"), (("numeric",), [True]),
        (("numeric",), [False, False]), (("model",), {"kind": "popularity"}),
        (("model",), {"kind": "x"}), (("model", "strength"), -1.0), (("model", "strength"), "x"),
        (("model",), {"kind": "blend", "first": {"kind": "blend"}, "second": {}}),
        (("embedding",), None), (("embedding",), {"kind": "popularity"}),
        (("embedding", "factors"), 10**9), (("compared",), []), (("why",), [3]), (("net",), 3),
        (("net",), "x"), (("random_state",), "x"), (("evaluation",), {}),
        (("evaluation", "measures"), {}), (("evaluation", "users"), "x"),
        (("evaluation", "ahead"), {"nobody": [1.0, 2.0]}), (("evaluation", "notes"), 3),
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_that_no_fit_leaves_is_refused_or_does_no_harm(bundle, path, value):
    manifest = manifest_of(bundle)
    *parents, last = path
    section = manifest["sections"]["recommend"]
    for key in parents:
        section = section[key]
    assert last in section
    section[last] = value
    seal(bundle, manifest)
    refused_or_works(bundle)


@pytest.mark.parametrize("value", [-1.0, 0.5, 300.0, 3e38, 1e10])
@pytest.mark.parametrize("name", ["users.lengths", "users.bytes", "items.lengths", "items.bytes",
                                  "lists.lengths", "lists.items", "model.weights", "model.factor",
                                  "embedding.vectors", "embedding.root"])  # fmt: skip
def test_damaged_tensors_are_refused_or_do_no_harm(bundle, name, value):
    tensors = load_file(bundle)
    tensors[name].view(-1)[-1 if name == "lists.items" else 1] = value
    write_tensors(bundle, tensors, json.dumps(manifest_of(bundle)))
    if name.startswith(("users", "items", "lists")):
        with pytest.raises(BundleError):
            Recommender.load(bundle)
    refused_or_works(bundle)


def test_tensors_that_are_missing_too_many_or_misshapen_are_refused(bundle):
    whole = load_file(bundle)
    for change in (
        {"x": whole["model.own"]},
        {"model.own": whole["model.own"][:-1]},
        {"users.lengths": whole["users.lengths"][:-1]},
        {"lists.items": None},
    ):
        tensors = {n: t.clone() for n, t in {**whole, **change}.items() if t is not None}
        write_tensors(bundle, tensors, json.dumps(manifest_of(bundle)))
        with pytest.raises(BundleError):
            Recommender.load(bundle)


def test_identifiers_that_are_no_numbers_are_not_given_as_numbers(tmp_path):
    fitted(interactions(30, 10).astype(str).map(lambda text: f"x{text}")).save(tmp_path / "m")
    manifest = manifest_of(tmp_path / "m")
    manifest["sections"]["recommend"]["numeric"] = [True, True]
    seal(tmp_path / "m", manifest)
    with pytest.raises(BundleError, match="not whole numbers"):
        Recommender.load(tmp_path / "m")


def test_a_changed_byte_or_another_file_is_refused(bundle, tmp_path):
    content = bytearray(bundle.read_bytes())
    content[-100] ^= 1
    bundle.write_bytes(content)
    with pytest.raises(BundleError):
        Recommender.load(bundle)
    (tmp_path / "text").write_text("no model")
    with pytest.raises(BundleError):
        Recommender.load(tmp_path / "text")
    with pytest.raises(KeyholeError):
        Recommender.load(tmp_path / "missing")


def test_a_model_of_another_task_says_what_it_is(bundle):
    with pytest.raises(BundleError, match="recommend") as caught:
        AnomalyDetector.load(bundle)
    assert "\n" not in str(caught.value)


def test_answers_for_many_users_take_no_matrix_of_all_scores():
    """20,000 users of 2,000 items: all scores at once would be 160 MB."""
    import tracemalloc

    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(20_000), 3)
    item = rng.integers(0, 2_000, len(user))
    recommender = fitted(pd.DataFrame({"user": user, "item": item}), net="popularity")
    users = pd.DataFrame({"user": np.arange(20_000)})
    began = time.process_time()
    tracemalloc.start()
    top = recommender.recommend(users, k=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(top) == 100_000
    assert peak < 120e6
    assert time.process_time() - began < 20


def test_a_column_of_values_that_training_had_not_filters_no_later_rows():
    frame = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": [1, 2, 2, 3, 1]})
    model = Recommender("linear:strength=5").fit(frame)
    later = pd.DataFrame({"user": [9, 9], "item": [1, 2], "rating": [0.0, -1.0]})
    assert model.histories(later).lists.nnz == 2


def test_where_times_are_known_the_last_item_of_users_held_out_is_judged_too(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(u, (u % 5) + 5 * int(j), t) for u in range(60)
            for t, j in enumerate(rng.permutation(8)[:5])]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    model = Recommender("linear:strength=5", random_state=0).fit(frame)
    last = model.evaluation_.last
    assert last.users == model.evaluation_.users
    assert last.measures["this model"]["recall@20"].mean == 1.0  # of 3 items of the own kind
    assert "last item in time" in "\n".join(model.evaluation_.lines())
    model.save(tmp_path / "m.keyhole")
    assert Recommender.load(tmp_path / "m.keyhole").evaluation_ == model.evaluation_
    assert Recommender("linear:strength=5").fit(frame[["user", "item"]]).evaluation_.last is None


def test_a_fit_can_turn_the_vectors_of_items_towards_those_of_an_earlier_one():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"user": rng.integers(0, 80, 900), "item": rng.integers(0, 30, 900)})
    first = Recommender("linear:strength=5").fit(frame)
    before = first.embed().drop(columns="item").to_numpy()
    free = Recommender("linear:strength=5").fit(frame.iloc[:850])
    turned = Recommender("linear:strength=5").fit(frame.iloc[:850], align_to=first)
    far, near = (
        np.linalg.norm(m.embed().drop(columns="item").to_numpy() - before) for m in (free, turned)
    )
    assert near < 0.5 * far


def test_of_one_family_the_settings_that_were_chosen_are_said():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"user": rng.integers(0, 80, 900), "item": rng.integers(0, 30, 900)})
    (why,) = Recommender("linear").fit(frame).why_
    assert re.match(
        r"linear autoencoder \(strength=.*\): NDCG@100 0\.\d+ on the users that choose", why
    )


def test_an_earlier_fit_to_align_to_must_be_fitted():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 2]})
    with pytest.raises(NotFittedError):
        Recommender("linear:strength=5").fit(frame, align_to=Recommender())
