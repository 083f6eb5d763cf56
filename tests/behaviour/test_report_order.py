"""The order of a page: the answer first, then how far to trust it, then the model."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from test_report import Read, asked, fitted, table

from keyhole.checks import Finding
from keyhole.data.images import open_images
from keyhole.report import render
from keyhole.report.colours import GAP, MAX_LEVELS, colours_of
from keyhole.report.generation import DrawnRows
from keyhole.report.headline import of_model
from keyhole.report.images import render_denoising
from keyhole.report.page import _without_rows
from keyhole.report.trust import of_rows, of_samples, trust_of
from keyhole.report.words import FOLDER
from keyhole.tasks import Denoiser
from keyhole.tasks.drift import Remark
from keyhole.tasks.realism import Judgement
from keyhole.training import TrainingConfig

RATES = Remark("rates", "these rows are more anomalous than the training rows")
ALIKE = Remark("alike", "these rows look like the training data")
JARGON = re.compile(
    r"who says it|taken away|cells in sight|times the usual|× the usual|held-out rows cost"
)


@pytest.fixture(scope="module")
def model():
    return fitted(table())


@pytest.fixture(scope="module")
def page(model):
    rows = asked(200, columns=pa.table({
        "kind": ["a", "b"] * 100, "size": np.arange(200.0), "empty": [1] * 200,
    }))  # fmt: skip
    return render(model, rows)


def mark(page):
    """The classes of the two marks of a page, and the levels of its findings."""
    return re.findall(r'<p class="mark (\w+)">', page), re.findall(r'<li class="(\w+)"><h3>', page)


def test_the_answer_comes_first_then_trust_then_the_model_folded(page):
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page)
    assert headings == [
        "2 alarms in 200 rows, no more than by chance", "What now", "The strongest rows",
        "What the alarms have in common", "Map of the rows", "How far to trust it", "The model",
    ]  # fmt: skip
    fold = page.index('<details id="model"')
    for title in ("Prediction error on held-out rows", "Training curve", "What the codes mean",
                  "How well each column is predicted", "How it was made"):  # fmt: skip
        assert page.index(title) > fold


def test_the_headline_has_the_number_expected_by_chance(page):
    text = Read(page).text
    expected = "If all rows were normal, about 2 would be expected by chance at the false alarm"
    assert text.index(expected) < text.index("The strongest rows")


def test_ten_rows_are_shown_and_the_others_open_on_request(page):
    first, _, rest = page.partition("<summary>40 more rows</summary>")
    assert first.count('data-label="row"') == 10
    assert rest.count('data-label="row"') == 40


def test_plain_words_stand_where_jargon_was(page):
    assert not JARGON.search(Read(page).text)
    assert "The unit is nats per row: minus the natural logarithm" in Read(page).text


@pytest.mark.parametrize("remark", [RATES, ALIKE, Remark("gaps", "column x"), Remark("few", "9")])
def test_no_green_mark_stands_above_a_worse_finding(model, remark):
    page = render(model, asked(60, remarks=[remark]))
    marks, levels = mark(page)
    order = ["good", "note", "warn"]
    assert marks[0] == marks[1]
    assert marks[0] == max([marks[0], *levels], key=order.index)
    assert levels == sorted(levels, key=order.index, reverse=True)
    if remark is RATES:
        assert (marks[0], levels[0]) == ("warn", "warn")
        assert "these rows differ from the training rows as a whole" in page


def test_the_line_of_trust_is_that_of_its_worst_finding():
    learned, severe = "learned: does not copy", Finding("KH003", "copies its input", "it copies")
    note = Finding("KH007", "rebuilds less closely", "it does")
    notices, line = of_rows([ALIKE], None)
    good = trust_of(learned, [], notices, line)
    text = "The model passes the checks, and these rows look like the training rows."
    assert (good.level, good.line) == ("good", text)
    assert trust_of(learned, [note], notices, line).level == "note"
    assert trust_of(learned, [], *of_rows([RATES], None)).level == "warn"
    assert trust_of(learned, [], *of_rows([ALIKE], "About 6 % stand apart.")).level == "note"
    bad = trust_of("not good enough: copies its input", [note, severe], notices, line)
    assert (bad.level, [notice.level for notice in bad.notices]) == ("warn", ["warn", "note"])
    assert "does not pass the checks" in bad.line
    assert "look like" not in bad.line


def test_drawn_rows_that_are_told_from_real_ones_are_a_finding(model):
    levels = [max([notice.level for notice in of_samples(auc)[0]], default="good")
              for auc in (None, 0.55, 0.8, 0.99)]  # fmt: skip
    assert levels == ["good", "good", "note", "warn"]
    judged = Judgement(0.1, 0.1, 0.99, None, None, 0.5, [("left", 0.1)], {})
    top = _without_rows(model, DrawnRows("normal", 40, judgement=judged))
    assert top["headline"].title == "Drawn rows: easy to tell from real ones"
    assert top["trust"].level == "warn"
    unknown = _without_rows(model, DrawnRows("normal", 40, judgement=None))
    assert unknown["headline"].title == "Rows drawn from the model"


def test_a_page_without_rows_says_what_was_learned_and_if_it_is_useful(model):
    learned, useless = (of_model(model.model_, good) for good in (True, False))
    assert re.match(r"The model has learned: \d of 3 columns can be predicted", learned.title)
    assert useless.title.startswith("The model is not useful yet")
    assert "than that of PCA, in nats per row." in learned.sentences[-1]
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", render(model, None))
    assert headings[1:] == [
        "What now", "How well each column is predicted", "How far to trust it", "The model"
    ]  # fmt: skip


def test_every_mark_of_a_chart_has_a_tooltip(page):
    start = r'<svg viewBox="0 0 720.*?'
    charts = re.findall(rf"{start}</svg>\n?</svg>|{start}</figure>", page, re.DOTALL)
    assert len(charts) == 4  # map, scores, p-values, training
    for chart in charts:
        assert "<title>" in chart
        assert chart.count("<circle") <= chart.count("<title>")
    assert re.search(
        r"<title>anomaly score [\d.]+ to [\d.]+: \d+ rows?, \d+ alarms?</title>", page
    )
    assert re.search(r"<title>step \d+: training [−\d.]+, held out [−\d.]+ nats", page)
    assert re.search(r"<title>row \d+: anomaly score [\d.]+</title>", page)


def test_the_map_has_labelled_axes_and_is_coloured_by_columns(page):
    options = re.findall(r"<option value=\"(-?\d+)\">(.*?)</option>", page)
    assert options == [("-1", "anomaly score"), ("0", "kind"), ("1", "size")]
    assert re.search(r"Across: direction 1 \(\d+ % of the variance\)", page)
    assert re.search(r"Up: direction 2 \(\d+ % of the variance\)", page)
    columns = Read(page).map["colours"]
    assert [(column["name"], column["names"]) for column in columns] == [
        ("kind", ["a", "b"]), ("size", [])
    ]  # fmt: skip
    assert columns[1]["ends"] == ["0", "100", "199"]
    noscript = re.search(r"<noscript><figure>.*?</figure></noscript>", page, re.DOTALL)
    assert noscript[0].count("<circle") == 200  # without JavaScript the map is a chart


def test_colours_hold_levels_numbers_dates_and_gaps():
    days = np.datetime64("2024-01-01", "us") + np.arange(40) * np.timedelta64(86_400_000_000, "us")
    many = pa.array([f"level {i % 20}" for i in range(40)])
    table = pa.table({
        "many": many, "number": pa.array([None, *range(39)], pa.float64()), "day": days,
        "flag": [True, False] * 20, "id": [f"x{i}" for i in range(40)],
    })  # fmt: skip
    colours = {colour.name: colour for colour in colours_of(table, np.arange(40))}
    assert list(colours) == ["many", "number", "day", "flag"]  # an id is no colour
    assert len(colours["many"].names) == MAX_LEVELS + 1
    assert colours["many"].names[-1] == "9 others"
    assert colours["number"].values[0] == GAP
    assert colours["number"].values[1:].min() == 0
    assert colours["number"].values.max() <= GAP
    assert (np.diff(colours["day"].values) >= 0).all()
    assert colours["day"].ends[0] == "2024-01-01 00:00"
    assert set(colours["flag"].values.tolist()) == {0, 1}
    assert colours_of(None, np.arange(3)) == []


def test_a_page_of_many_rows_has_fewer_columns_to_colour_by():
    table = pa.table({f"x{i}": np.arange(100_000.0) for i in range(8)})
    assert len(colours_of(table, np.arange(100_000))) == 2
    assert len(colours_of(table, np.arange(1_000))) == 8


def test_nothing_is_cut_on_a_screen_of_390_pixels(page):
    style = (FOLDER / "style.css").read_text()
    outside = re.sub(r'<div class="scroll"><table.*?</table></div>', "", page, flags=re.DOTALL)
    assert "<table" not in outside  # tables scroll in their box
    assert ".scroll { overflow-x: auto; }" in style
    assert re.search(r"figure \{[^}]*overflow-x: auto", style)  # and so do charts
    phone = style[style.index("@media (max-width: 34rem)") :]
    assert ".stack th, .stack td { display: block; }" in phone  # the strongest rows are stacked
    assert page.count('data-label="reasons"') == 50
    widths = [float(width) for width in re.findall(r"min-width: ([\d.]+)rem", phone)]
    assert max(widths) * 16 < 390 - 36
    assert "overflow-wrap: anywhere" in re.search(r"\nh1 \{[^}]*\}", style)[0]
    assert 'content="width=device-width, initial-scale=1"' in page


def test_images_stand_beside_their_anomaly_maps(model):
    url = "data:image/png;base64,AAAA"
    page = render(model, replace(asked(30), images=dict.fromkeys(range(30), url)))
    assert page.count(f'<img class="anomaly-map" src="{url}"') == 10


def test_a_denoised_image_stands_beside_its_clean_one_where_that_is_known():
    """Takes some seconds: filters are compared with the net."""
    rng = np.random.default_rng(0)
    clean = np.tile(np.linspace(0, 1, 48, dtype=np.float32), (48, 1))
    noisy = [
        (scale * (clean + 0.1 * rng.normal(size=clean.shape))).astype(np.float32)
        for scale in (1, 1_000)  # other units: nothing is pooled
    ]
    denoiser = Denoiser(training=TrainingConfig(2, batch=2), random_state=0).fit(noisy)
    page = render_denoising(denoiser, open_images(noisy), [clean, None])
    assert page.count("data:image/png") == 7  # before, after, residual; and one clean image
    (judged,) = denoiser.judge(noisy[0], clean)
    before, after = judged.psnr
    assert f"PSNR {before:.2f} → {after:.2f} dB</h1>" in page
    assert f"<figcaption>after, PSNR {after:.2f} dB</figcaption>" in page
