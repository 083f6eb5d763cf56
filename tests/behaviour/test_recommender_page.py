"""The page of a recommender: its figures, its lists, and what it survives."""

import re

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse
from test_report import HOSTILE, Read

from keyhole.errors import FileError, SettingError
from keyhole.report import write_report
from keyhole.report.charts import Axis, Chart
from keyhole.report.item_charts import (
    MAX_ITEMS,
    directions,
    item_map,
    popularity_curve,
    popularity_in_words,
)
from keyhole.report.lists import render_recommender, write_recommender
from keyhole.report.words import number
from keyhole.tasks import Recommender


def table(users=120, items=30, named="song {}".format):
    """Users of two tastes: most of their items are of one half of the catalogue."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        weights = 1 / np.arange(1, items + 1) + np.where(np.arange(items) % 2 == user % 2, 1, 0.1)
        wanted = rng.choice(
            items, rng.integers(2, min(12, items)), replace=False, p=weights / weights.sum()
        )
        rows += [(f"u{user}", named(item)) for item in wanted.tolist()]
    return pa.table({"user": [user for user, _ in rows], "item": [item for _, item in rows]})


def fitted(data, net="item_knn"):
    return Recommender(net, random_state=0).fit(data)


@pytest.fixture(scope="module")
def recommender():
    return fitted(table())


@pytest.fixture(scope="module")
def page(recommender):
    return render_recommender(recommender)


def test_the_page_has_the_figures_of_the_evaluation(recommender, page):
    read, evaluation = Read(page), recommender.evaluation_
    assert not read.open
    for own in evaluation.measures.values():
        for interval in own.values():
            assert number(interval.mean, 3) in read.text
            if np.isfinite(interval.low):
                assert f"{number(interval.low, 3)} to {number(interval.high, 3)}" in read.text
    own = evaluation.measures["this model"]["ndcg@100"]
    assert f"NDCG@100, which decides, is {own.mean:.3f} ({own.low:.3f} to" in read.text
    assert f"{evaluation.users} users were hidden" in read.text


def test_the_page_says_the_verdict_the_findings_and_why(recommender, page):
    text = Read(page).text
    assert recommender.verdict_.partition(": ")[2] in text
    for finding in recommender.findings_:
        assert finding.code in text
    for sentence in recommender.why_:
        assert sentence[1:] in text
    for title, value in recommender.compared_.items():
        assert f"{title} (chosen) {value:.3f}" in text


def test_examples_are_lists_of_the_model_for_users_of_different_lengths(recommender, page):
    shown = re.findall(r'<table class="lists">(.*?)</table>', page, re.DOTALL)
    assert len(shown) == 5
    lengths = []
    for example in shown:
        text = Read(example).text
        user, length = re.match(r"(u\d+) (\d+) items", text).groups()
        lengths.append(int(length))
        best = recommender.recommend([user], 5)["item"].to_list()
        places = [text.index(f"{rank}. {item} ") for rank, item in enumerate(best, 1)]
        assert places == sorted(places)
        cause = recommender.explain(user, best[0], 1)["item"].to_list()[0]
        assert cause in text.partition("because of")[2]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_page_loads_nothing_and_fits_a_phone(page):
    assert "default-src &#39;none&#39;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "style=" not in page
    tables, boxes = page.count("<table"), page.count('<div class="scroll"><table')
    assert tables == boxes  # a wide table scrolls in its own box
    assert 'name="viewport"' in page
    assert not [w for w in re.findall(r' width="(\d+)"', page) if int(w) > 720]


def test_identifiers_are_escaped_and_cut():
    hostile = [text.replace("\ud800", "") for text in HOSTILE] + ["a" * 5_000, "ünï 日本 😀"]
    data = table(40, 8, named=lambda item: f"{hostile[item % len(hostile)]}{item}")
    users = pa.array([f"<script>{user}" for user in data["user"].to_pylist()])
    page = render_recommender(fitted(data.set_column(0, "user", users)))
    read = Read(page)
    assert read.tags.count("script") == 1  # the theme
    assert "img" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "&lt;script&gt;" in page
    assert "日本 😀" in page
    assert "a" * 100 not in page


def test_a_model_without_evaluation_says_so():
    few = fitted(table(6))
    assert few.evaluation_.users == 0
    read = Read(render_recommender(few))
    assert "Not evaluated: no user has two or more items" in read.text
    assert "Nothing was measured." in read.text
    assert "KH019" in read.text
    assert "Map of items" in read.text
    assert not read.open


@pytest.mark.parametrize("users", [1, 60])
def test_a_catalogue_of_one_item_has_nothing_left_to_recommend(users):
    one = fitted(sparse.csr_array(np.ones((users, 1))), "popularity")
    assert one.fitted_.embedding is None
    read = Read(render_recommender(one))
    assert "Nothing is left to recommend" in read.text
    assert "Map of items" not in read.text
    assert "The 1 most popular item (100 % of the catalogue) holds 100 % of all pairs" in read.text
    assert not read.open


def test_items_and_users_without_a_pair_are_no_harm():
    history = np.zeros((30, 6))
    history[:25, :3] = np.eye(3)[np.arange(25) % 3] + np.eye(3)[(np.arange(25) + 1) % 3]
    read = Read(render_recommender(fitted(sparse.csr_array(history), "popularity")))
    assert "30 2 items each, median" in read.text
    assert "NaN" not in read.text
    assert not re.findall(r"\bnan\b", read.text)


def test_an_item_of_no_single_cause_is_said_to_have_none():
    text = Read(render_recommender(fitted(table(), "popularity"))).text
    assert "no item in particular" in text


def test_the_parts_of_a_blend_are_listed():
    from keyhole.tasks.recommend.blend import Blend
    from keyhole.tasks.recommend.simple import ItemNeighbours, Popularity

    blend = Blend.of(ItemNeighbours(), Popularity(), 0.3)
    read = Read(render_recommender(fitted(table(), blend)))
    assert "first model item_knn" in read.text
    assert "second model popularity" in read.text


def test_the_map_shows_the_most_popular_items_with_larger_dots():
    counts = np.arange(MAX_ITEMS + 500)[::-1].astype(np.int64)
    rng = np.random.default_rng(0)
    history = sparse.random_array((40, len(counts)), density=0.1, rng=rng, format="csr")
    history.data[:] = 1
    recommender = fitted(history, "popularity")
    own = recommender.fitted_
    drawn = item_map(own.embedding, own.interactions.items, counts)
    dots = re.findall(r'r="([\d.]+)" fill-opacity="0.55"><title>(\d+), ([\d,]+) user', drawn)
    assert len(dots) == MAX_ITEMS
    assert {int(name) for _, name, _ in dots} == set(range(MAX_ITEMS))
    radius = {int(name): float(r) for r, name, _ in dots}
    assert radius[0] > radius[MAX_ITEMS - 1]
    assert 'class="fill-ink halo"' in drawn
    assert "NaN" not in drawn


def test_directions_are_the_same_however_vectors_are_turned(recommender):
    from copy import copy

    import torch

    embedding = recommender.fitted_.embedding
    turned, rng = copy(embedding), torch.Generator().manual_seed(0)
    width = embedding.vectors.shape[1]
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=rng))
    turned.vectors = embedding.vectors @ rotation
    assert np.abs(directions(turned)) == pytest.approx(np.abs(directions(embedding)), abs=1e-5)


def test_the_tail_starts_where_four_fifths_of_the_pairs_are_held():
    counts = np.array([40, 1, 40, 1, 18])
    assert popularity_in_words(counts).startswith(
        "The 2 most popular items (40 % of the catalogue) hold 80 % of all pairs"
    )
    assert "The other 3 are the tail" in popularity_in_words(counts)
    many = popularity_curve(np.arange(1, 5_001))
    assert "logarithmic above 10" in many
    assert len(many) < 20_000


def test_names_on_a_chart_do_not_cover_each_other():
    chart = Chart(Axis("x", 0, 10), Axis("y", 0, 10), 200)
    assert chart.name(1, 5, "first")
    assert not chart.name(1, 5, "second")
    assert chart.name(1, 9, "third")
    assert chart.name(9.9, 5, "fourth")
    assert [label.anchor for label in chart.labels] == ["start", "start", "end"]


def test_the_page_is_written_as_a_whole_and_by_write_report_too(recommender, tmp_path):
    for write, name in ((write_recommender, "a.html"), (write_report, "b.html")):
        write(tmp_path / name, recommender)
        assert (tmp_path / name).read_text().endswith("</html>\n")
    with pytest.raises(FileError):
        write_recommender(tmp_path / "absent" / "x.html", recommender)
    with pytest.raises(SettingError, match="takes no rows"):
        write_report(tmp_path / "c.html", recommender, table())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]
