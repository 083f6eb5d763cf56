"""What a page shows of codes and of drawn rows."""

import re
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_report import HOSTILE, Read, fitted, table

from keyhole import Autoencoder
from keyhole.autoencoder.sampling import reference_rows, with_prior
from keyhole.autoencoder.width import WidthChoice
from keyhole.model.bottlenecks import Plain
from keyhole.model.priors import Mixture
from keyhole.report import render
from keyhole.report.charts import width_curve
from keyhole.report.generation import code_rows, own_dimension, questions, samples
from keyhole.tasks import Generator
from keyhole.training import TrainingConfig

CHOICE = WidthChoice(3, 6, 2.4, None, [9.0, 5.0, 2.0, 1.9, 2.1, 2.2], 0.2, "width 3: <b>it</b>")


def with_own_prior(model):
    batch = reference_rows(model.model_.reference, held_out=False)
    model.model_ = with_prior(model.model_, iter([batch]), Mixture(1), 0)
    return model


def pixels(rows=60, side=6):
    """Little images with a bright bar whose place varies; the corner is always empty."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (rows, side, side)).astype(float)
    x[np.arange(rows), :, rng.integers(1, side, rows)] += 10.5
    x[:, 0, 0] = 0
    return x.reshape(rows, -1)


@pytest.fixture(scope="module")
def plain():
    return fitted(table())


@pytest.fixture(scope="module")
def drawing():
    return with_own_prior(fitted(table()))


def test_a_page_shows_of_generation_only_what_the_model_has(plain):
    read = Read(render(plain, None))
    assert "What the codes mean" in read.text
    assert "How wide" not in read.text
    assert "Drawn rows" not in read.text
    assert (width_curve(None), own_dimension(None), samples(plain)) == (None, "", None)


def test_the_width_curve_marks_the_taken_width_and_says_why(plain):
    model = copy(plain)
    model.model_ = replace(plain.model_, width_choice=CHOICE)
    page = render(model, None)
    read = Read(page)
    assert "Width 3: <b>it</b>." in read.text
    assert (
        "The rows themselves fill about 2.4 dimensions, by an estimate from near neighbours."
        in read.text
    )
    assert "2.00 at 3, the chosen width, and 2.20 at 6" in page
    assert not [name for name, _ in read.attributes if name == "style"]
    assert read.open == []


def test_the_meaning_of_codes_stands_in_a_table_of_eight_and_the_rest_is_counted():
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(40, 12)), columns=list("abcdefghijkl"))
    model = fitted(wide, width=10)
    rows, more = code_rows(model)
    assert (len(rows), more) == (8, 2)
    assert "variance; and 2 more" in Read(render(model, None)).text
    assert [row.bar for row in rows] == sorted((row.bar for row in rows), reverse=True)


def test_a_code_row_says_what_it_moves_and_rows_at_its_ends(plain):
    rows, _ = code_rows(plain)
    text = Read(render(plain, None)).text
    for row in rows:
        assert row.drives[0].split(" (")[0] in text
        assert row.ends[0] in text
    assert {row.name for row in rows} == {"code_0", "code_1"}


def test_a_page_without_remembered_rows_has_no_cards(tmp_path, plain):
    plain.save(str(tmp_path / "alone"))
    alone = Autoencoder.load(str(tmp_path / "alone"))
    assert code_rows(alone) == ([], 0)
    assert "What the codes mean" not in Read(render(alone, None)).text


def test_ten_drawn_rows_stand_beside_five_real_ones_with_five_judgements(drawing):
    read = Read(render(drawing, None))
    assert read.open == []
    for said in ("drawn 10", "real 5", "the mixture prior, which was fitted to the codes of"):
        assert said in read.text
    assert "drawn 11" not in read.text
    assert "real 6" not in read.text
    assert "10 drawn rows and 5 real ones." in read.text
    judgement = Generator.from_fitted(drawing).judge()
    for figure in (judgement.shape_error, judgement.trend_error, judgement.c2st_auc):
        assert f" {figure:.3f} " in read.text
    assert len(questions(judgement)) == 5
    assert all(one.question in read.text for one in questions(judgement))
    held = reference_rows(drawing.model_.reference, held_out=True)
    first = drawing.model_.modality.drawn(held).to_pylist()[0]["kind"]
    assert samples(drawing).real[0][2] == first


def test_many_columns_are_counted_and_left_out():
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(40, 12)) * 3, columns=list("abcdefghijkl"))
    wide["l"] = wide["l"] > 0
    found = samples(with_own_prior(fitted(wide)))
    assert (found.columns, found.more, found.side) == (list("abcdefgh"), 4, 0)


def test_rows_of_pixels_are_shown_as_images_made_of_classes_and_paths():
    x = pixels()
    training = TrainingConfig(steps=30, members=1)
    model = with_own_prior(Autoencoder(Plain(2), training=training, random_state=0).fit(x))
    found = samples(model)
    assert (found.side, found.columns, found.drawn, found.real) == (6, [], [], [])
    assert [len(part) for part in (found.drawn_images, found.real_images, found.way)] == [
        10, 5, 8
    ]  # fmt: skip
    held = model.model_.modality.drawn(reference_rows(model.model_.reference, held_out=True))
    first = np.stack([column.to_numpy() for column in held.columns], 1)[0]
    strongest = found.real_images[0][-1][1]
    drawn = [(int(y), int(x)) for x, y in re.findall(r"M(\d) (\d)h1v1h-1z", strongest)]
    assert int(first.argmax()) in {6 * y + x for y, x in drawn}
    assert all("M0 0h" not in path for image in found.real_images for _, path in image)
    page = render(model, None)
    read = Read(page)
    assert page.count('<svg class="image"') == 23
    assert "img" not in read.tags
    assert not [name for name, _ in read.attributes if name == "style"]
    assert "drawn 1 " not in read.text


def test_large_images_are_drawn_with_fewer_points(monkeypatch):
    monkeypatch.setattr("keyhole.report.generation._judged", lambda model: {})  # takes its time
    x = pixels(rows=30, side=20)
    model = with_own_prior(
        Autoencoder(Plain(1), training=TrainingConfig(3, members=1), random_state=0).fit(x)
    )
    found = samples(model)
    assert found.side == 16
    assert len(render(model, None).encode()) < 1_000_000


def test_a_square_table_of_different_measures_is_no_image():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 36)) * 10.0 ** (np.arange(36) % 6)
    model = with_own_prior(
        Autoencoder(Plain(1), training=TrainingConfig(3), random_state=0).fit(x)
    )
    assert samples(model).side == 0


def test_a_model_that_remembers_nothing_still_shows_what_it_draws(drawing, tmp_path):
    drawing.save(str(tmp_path / "alone"))
    found = samples(Autoencoder.load(str(tmp_path / "alone")))
    assert (len(found.drawn), found.real, found.questions) == (10, [], [])


def test_hostile_names_and_levels_come_out_as_text_in_cards_and_samples():
    wild = table(names=HOSTILE[:3])
    wild[HOSTILE[2]] = np.where(wild[HOSTILE[2]] == "a", HOSTILE[0], HOSTILE[3])
    read = Read(render(with_own_prior(fitted(wild)), None))
    assert read.open == []
    assert "img" not in read.tags
    assert read.tags.count("script") == 1  # the page's own, for its theme
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "style"]
