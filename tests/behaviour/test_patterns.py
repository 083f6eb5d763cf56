"""What alarms have in common, and the words, figures and places a page gives them."""

import numpy as np

from keyhole.modalities.expected import UNKNOWN, Prediction, expected_levels
from keyhole.modalities.tabular.columns import Datetime, Number
from keyhole.report import ScoredRows
from keyhole.report.charts import p_value_histogram
from keyhole.report.code_map import levels, on_grid
from keyhole.report.facts import outliers, rows_in_words
from keyhole.report.headline import figures, of_rows
from keyhole.report.words import number, plain, rate, script_json, times
from keyhole.tasks import Answer, Reason
from keyhole.tasks.detect.answer import shared


def answer(reasons, rows=20, alarm=None):
    alarm = np.ones(rows, bool) if alarm is None else alarm
    ones = np.ones(rows)
    return Answer(np.arange(rows), ones, 0.1 * ones, 0.01 * ones, alarm, reasons)


def flow(value="1,250", share=0.8):
    numbers = (float(value.replace(",", "")), 12.0, 1_100.0)
    return Reason("flow_1", value, "12 to 1,100", share, numbers=numbers)


def mode(value="sideways", share=0.8):
    return Reason("mode", value, "forward", share)


def cells(column, values, ranges, at_point_mass=()):
    """The cell of each value in a column where these ranges are expected, in features."""
    import pyarrow as pa

    features, observed = column.encode(pa.array(values))
    assert observed[:, -1].any()
    low, high = (np.repeat(end[:, None], features.shape[1], 1) for end in np.array(ranges).T)
    middle = (low + high) / 2
    for row, share in enumerate(at_point_mass):
        middle[row, 0] = share
    said = column.expected(features, Prediction(middle, low, high))
    return [
        Reason(column.name, text, expected, 1.0, numbers=tuple(numbers))
        for text, expected, numbers in zip(
            column.text(pa.array(values)), said.texts, said.numbers, strict=True
        )
    ]


def number_column(**settings):
    plain = {"center": 0.0, "scale": 1.0, "transformed": False, "point_mass": None}
    return Number("x", **plain | {"range": [-1e6, 1e6], "type": "double"} | settings)


def test_numbers_lie_above_or_below_their_range_or_within_it():
    ranges = [(12, 1_100), (-1_000, 4), (1_000, 12_345), (12, 15), (12, 15), (12, 15)]
    values = [1_250.0, -3.2e5, 12_350.0, 7.0, 13.0, 15.000_1]
    found = [cell.direction for cell in cells(number_column(), values, ranges)]
    assert found == ["above", "below", "above", "below", "", ""]  # as it is written


def test_what_training_does_not_tell_has_no_direction():
    (found,) = cells(number_column(range=[0.0, 50.0]), [40.0], [(90, 95)])
    assert (found.expected, found.direction) == (UNKNOWN, "")


def test_a_point_mass_is_expected_alone_or_beside_a_range():
    column = number_column(point_mass=[0.0, 0.6], range=[0.0, 100.0])
    found = cells(column, [5.0, 0.0, 40.0, 0.0], [(12, 30)] * 4, [0.95, 0.95, 0.5, 0.02])
    assert [cell.expected for cell in found] == [
        "0 (95 %)", "0 (95 %)", "0 or 12 to 30 (90 %)", "12 to 30 (90 %)",
    ]  # fmt: skip
    assert [cell.direction for cell in found] == ["above", "", "above", "below"]


def test_moments_lie_after_or_before_their_span():
    day = 86_400.0
    column = Datetime(
        "t", trend_s=[0.0, day], range_s=[0.0, 40_000 * day], step_s=day, parts=["trend"],
        style="", type="date32[day]",
    )  # fmt: skip
    days = [19_875, 19_500, 19_730]  # 2024-06-01 and before
    moments = [np.datetime64(n, "D").item() for n in days]
    found = cells(column, moments, [(19_723, 19_754)] * 3)
    assert found[0].expected == "2024-01-01 to 2024-02-01 (90 %)"
    assert [cell.direction for cell in found] == ["above", "below", ""]


def test_levels_have_no_direction_though_they_are_written_as_numbers():
    assert expected_levels(np.array([[0.98, 0.02]]), np.array([1]), ["0", "1"]).numbers is None
    assert Reason("flag", "1", "0 (98 %)", 1.0).direction == ""


def test_alarms_are_grouped_by_column_and_direction_or_level():
    reasons = {i: [flow(f"{2_000 + i:,}")] for i in range(7)}
    reasons |= {i: [mode()] for i in range(7, 10)}
    reasons |= {i: [flow("3")] for i in range(10, 12)}
    assert [str(pattern) for pattern in answer(reasons).patterns()] == [
        "7 of 12 alarms: flow_1 above what was expected",
        "3 of 12 alarms: mode = 'sideways'",
        "2 of 12 alarms: flow_1 = 3, below what was expected",
    ]


def test_a_pattern_names_its_rows_and_no_row_without_an_alarm():
    alarm = np.arange(20) != 1
    (found,) = answer({i: [flow()] for i in range(4)}, alarm=alarm).patterns()
    assert (found.rows, found.of, found.column, found.direction) == (
        (0, 2, 3), 3, "flow_1", "above",
    )  # fmt: skip


def test_numbers_within_their_range_are_one_group_and_not_one_each():
    reasons = {i: [flow(str(20 + i))] for i in range(5)}
    (found,) = answer(reasons).patterns()
    assert str(found) == "5 of 5 alarms: flow_1 does not fit the rest of its row"


def test_one_row_is_no_pattern_and_no_row_has_none():
    assert answer({0: [flow()], 1: [mode()]}).patterns() == []
    assert answer({}).patterns() == []
    assert answer({0: [], 1: []}).patterns() == []


def test_a_row_is_held_by_each_cell_that_speaks_for_it_and_by_no_weak_one():
    reasons = {i: [flow(), mode(share=0.5)] for i in range(4)}
    reasons |= {4: [mode()], 5: [mode()], 6: [flow(), mode(share=0.1)]}
    found = answer(reasons).patterns()
    assert [pattern.rows for pattern in found] == [(0, 1, 2, 3, 4, 5)]
    assert found[0].cell == "mode = 'sideways'"


def test_patterns_that_mostly_repeat_another_are_left_out():
    reasons = {i: [flow(), mode()] for i in range(10)}
    reasons |= {10: [mode()], 11: [mode()], 12: [flow()], 13: [flow()]}
    reasons |= {i: [Reason("other", "x", "y", 1.0)] for i in range(14, 16)}
    found = [(p.column, len(p.rows)) for p in answer(reasons).patterns()]
    assert found == [("flow_1", 12), ("other", 2)]


def test_at_most_five_patterns_the_largest_first():
    reasons = {
        10 * c + i: [Reason(f"c{c}", "x", "y", 1.0)] for c in range(8) for i in range(2 + c)
    }
    found = answer(reasons, rows=100).patterns()
    assert [(p.column, len(p.rows)) for p in found] == [
        ("c7", 9), ("c6", 8), ("c5", 7), ("c4", 6), ("c3", 5),
    ]  # fmt: skip


def test_a_pattern_chosen_late_for_its_few_new_rows_still_stands_by_its_size():
    reasons = {i: [mode(), flow()] for i in range(3)} | {i: [mode()] for i in range(3, 12)}
    reasons |= {i: [flow()] for i in range(12, 15)}
    reasons |= {i: [Reason("other", "x", "y", 1.0)] for i in range(15, 19)}
    found = [(p.column, len(p.rows)) for p in answer(reasons).patterns()]
    assert found == [("mode", 12), ("flow_1", 6), ("other", 4)]


def test_equal_patterns_come_in_the_order_of_their_names_whatever_that_of_the_rows():
    reasons = {0: [Reason("b", "x", "y", 1.0)], 1: [Reason("a", "x", "y", 1.0)]}
    reasons |= {2 + place: cells for place, cells in reasons.items()}
    backward = dict(reversed(reasons.items()))
    assert [p.column for p in shared(reasons, range(4))] == ["a", "b"]
    assert shared(reasons, range(4)) == shared(backward, range(4))
    assert [p.rows for p in shared(reasons, reversed(range(4)))] == [(1, 3), (0, 2)]


def test_a_notebook_shows_patterns_as_text():
    shown = answer({i: [mode("<b>")] for i in range(3)})._repr_html_()
    assert "<li>3 of 3 alarms: mode = &#x27;&lt;b&gt;&#x27;</li>" in shown
    assert "<ul>" not in answer({})._repr_html_()


def asked(p_value, **more):
    rows = len(p_value)
    said = {
        "name": "new.csv", "anomaly_score": np.ones(rows), "score_std": np.full(rows, 0.25),
        "p_value": p_value, "alarm": p_value <= 0.05, "threshold": 9.0, "false_alarm_rate": 0.05,
        "contamination": 0.0, "codes": np.zeros((rows, 2)), "ids": [""] * rows, "reasons": {},
        "patterns": [], "remarks": [],
    }  # fmt: skip
    return ScoredRows(**said | more)


UNEVEN = np.concatenate([np.full(60, 0.05), np.arange(1, 41) / 40])


def test_alarms_stand_beside_those_promised_with_threshold_and_doubt():
    said = asked(UNEVEN)
    expected = "5 % of 100 rows, if all are normal; up to 9 would still be chance"
    assert [(fact.label, fact.value, fact.note) for fact in figures(said)] == [
        ("alarms", "62", "62 % of 100 rows"),
        ("expected by chance", "5", expected),
        ("alarm above", "9.00", "anomaly score; 1 is a typical row"),
    ]
    assert rows_in_words(said) == (
        "new.csv: 62 alarms in 100 rows; about 5 would be expected by chance if every row were "
        "normal (5 %), so about 57 of them are probably anomalies."
    )
    headline = of_rows(said)
    assert headline.title == "62 alarms in 100 rows, about 57 more than by chance"
    assert headline.sentences == [
        "If all rows were normal, about 5 would be expected by chance at the false alarm rate of "
        "5 %."
    ]


def test_the_headline_says_the_figures_of_the_terminal():
    from keyhole.tasks.detect.calibration import beyond_chance

    for alarms in (1, 5, 62, 100):
        few = asked(UNEVEN, alarm=np.arange(100) < alarms)
        terminal = beyond_chance(alarms, 100, 0.05, 0)
        headline = of_rows(few)
        start = f"{alarms} alarm{'s' * (alarms > 1)} in 100 rows"
        assert terminal.startswith(start)
        assert headline.title.startswith(start)
        assert ("no more than" in headline.title) == ("no more than chance" in terminal)
        assert "about 5 would be expected" in terminal
        if alarms > 9:
            assert f"about {alarms - 5} of them are probably anomalies" in terminal
            assert f"about {alarms - 5} more than by chance" in headline.title
        assert "about 5 would be expected" in headline.sentences[0]


def test_no_more_alarms_than_by_chance_lead_to_another_advice():
    many, few = of_rows(asked(UNEVEN)), of_rows(asked(UNEVEN, alarm=np.arange(100) < 6))
    assert few.title == "6 alarms in 100 rows, no more than by chance"
    assert few.steps[0] == "Check only the strongest rows: most alarms may be false."
    assert many.steps[0].startswith("Check the strongest rows first")
    assert of_rows(asked(UNEVEN, alarm=np.zeros(100, bool))).title == "No alarm in 100 rows"
    clear = of_rows(asked(UNEVEN, sure=40))
    assert clear.steps[0].startswith("Check the 40 strongest rows first")
    assert [fact.value for fact in clear.facts] == ["62", "5", "40", "9.00"]
    training = of_rows(asked(UNEVEN, training=True))
    assert training.title.startswith("62 alarms in 100 training rows")


def test_one_net_has_no_doubt_and_a_rate_out_of_reach_no_threshold():
    said = asked(UNEVEN, score_std=np.full(100, np.nan), threshold=np.inf)
    assert [fact.label for fact in figures(said)] == ["alarms", "expected by chance"]
    assert of_rows(said).sentences == [
        "No row can raise an alarm at the false alarm rate of 5 %: too few rows calibrate the "
        "scores."
    ]


def test_empty_rows_are_not_promised_anything():
    nothing = np.full(5, np.nan)
    said = asked(nothing, anomaly_score=nothing, score_std=nothing)
    assert figures(said) == []
    assert p_value_histogram(said) is None
    mixed = asked(UNEVEN, anomaly_score=np.where(np.arange(100) < 40, np.nan, 1.0))
    assert figures(mixed)[1].value == "3"


def test_all_rows_may_alarm_and_are_said_as_a_hundred_percent():
    said = asked(np.full(40, 0.01))
    assert of_rows(said).title.startswith("40 alarms in 40 rows")
    assert figures(said)[0].note == "100 % of 40 rows"


def test_the_figure_of_p_values_says_how_many_are_low_and_how_many_would_be():
    said = (
        "Histogram of the p-values of 100 rows in 20 bars: the first, up to 0.05, holds 62; "
        "rows like those of training would put 5 in each."
    )
    assert f'aria-label="{said}"' in str(p_value_histogram(asked(UNEVEN)))


def test_few_calibration_rows_make_as_many_bars_as_there_can_be_p_values():
    assert "in 4 bars: the first, up to 0.25, holds 3;" in str(
        p_value_histogram(asked(np.array([0.25, 0.25, 0.25, 0.5, 1.0])))
    )
    assert "in 1 bar: the first, up to 1.00, holds 1;" in str(p_value_histogram(asked(np.ones(1))))


def test_training_rows_that_stand_apart_are_said_where_they_are_over_five_percent():
    assert outliers(asked(UNEVEN, contamination=0.049)) is None
    assert outliers(asked(UNEVEN, contamination=0.06)) == (
        "About 6 % of the training rows are far from the others: if they are anomalies, there "
        "will be fewer alarms than the rate allows, never more."
    )


def test_levels_stand_close_to_the_values_in_the_bulk_and_in_the_tail():
    values = np.concatenate([np.random.default_rng(0).normal(size=10_000), [500.0, 1_000.0]])
    knots = levels(values)
    nearest = np.abs(values[:, None] - knots).min(1)
    assert len(knots) <= 255
    assert np.median(nearest) < 0.02
    assert nearest[-2:].max() < 5


def test_one_far_point_does_not_squeeze_the_others():
    place = np.random.default_rng(0).random((5_000, 2))
    place[0] = [1e6, 0.5]
    grid, far = on_grid(place)
    assert far == 1
    assert grid[0, 0] == 65_535
    assert np.ptp(grid[1:, 0]) > 30_000


def test_numbers_and_texts_are_said_as_a_person_writes_them():
    values = (-0.001, -1.5, 1234.5, None, np.inf, np.nan)
    assert [number(v) for v in values] == ["0.00", "−1.50", "1,234.50", "–", "∞", "–"]
    assert plain("a\nb\tc\u00a0d\x1b") == "a b c d�"
    assert not set("<>&\u2028\u2029") & set(script_json("</script><!--&\u2028\u2029"))
    assert [rate(share) for share in (0.0025, 0.05, 0.337, 0.994, 1.0)] == [
        "0.25 %", "5 %", "34 %", "99 %", "100 %",
    ]  # fmt: skip
    assert (times(3.1, 0.21), times(3.1, np.nan)) == ("3.10 ± 0.21", "3.10")
