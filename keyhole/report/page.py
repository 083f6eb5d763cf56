"""The report: one self-contained HTML file that opens offline."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.files import write_whole
from keyhole.core.progress import stage
from keyhole.errors import SettingError
from keyhole.report import charts, facts, generation, headline, trust
from keyhole.report.code_map import MAX_POINTS, CodeMap, pack
from keyhole.report.generation import DrawnRows
from keyhole.report.images import write_denoising
from keyhole.report.lists import write_recommender
from keyhole.report.map_chart import map_chart
from keyhole.report.rows import ScoredRows, score_rows
from keyhole.report.timeline import Timeline, for_page
from keyhole.report.timeline_chart import event_lines, resolution, timeline_chart
from keyhole.report.timeline_data import packed
from keyhole.report.words import fill, plain, script_json
from keyhole.tasks.denoiser import Denoiser
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.recommend.recommender import Recommender

MAX_BYTES = 1_000_000  # of a page; a larger one loses points of the map
POINT_BYTES = 8  # of the page, for a point of the map, after base64
TEMPLATE = "page.html.j2"


def write_report(path: str | os.PathLike[str], model: Any, data: Any = None) -> None:
    """Atomically write the page on a fitted model.

    `model`: an Autoencoder, AnomalyDetector, Generator, Denoiser or Recommender. `data`: rows to
    score, or images to denoise, as a frame, an array or a path; or the result of `score_rows`.
    Raises: FileError, DataError, SettingError if `model` is something else.
    """
    if not isinstance(path, str | os.PathLike):
        raise SettingError(
            f"write_report takes the path of the page first, got {type(path).__name__:.40}: "
            "write_report('page.html', model, data)"
        )
    if isinstance(model, Denoiser):
        check_is_fitted(model, "model_")
        if data is None:
            raise SettingError("a denoiser's page shows images: write_report(path, model, data)")
        return write_denoising(path, model, model.open(data))
    if isinstance(model, Recommender):
        if data is not None:
            raise SettingError("a recommender's page takes no rows: write_report(path, model)")
        return write_recommender(path, model)
    fitted = getattr(model, "autoencoder_", model)
    if not isinstance(fitted, Autoencoder):
        raise SettingError(
            "write_report takes a fitted Autoencoder, AnomalyDetector, Generator, Denoiser or "
            f"Recommender, got {type(model).__name__:.40}"
        )
    check_is_fitted(fitted)
    if data is not None and not isinstance(data, ScoredRows):
        detector = (
            model if isinstance(model, AnomalyDetector) else AnomalyDetector.from_fitted(fitted)
        )
        data = score_rows(detector, data)
    return write_whole(path, render(fitted, data))


def render(model: Autoencoder, scored: ScoredRows | None) -> str:
    """The page on a fitted model, and on scored rows if there are any.

    At most about a megabyte: the map shows fewer points if names and texts need the space.
    """
    stage("writing the page")
    values = _of_model(model)
    if scored is None or not len(scored):
        return fill(TEMPLATE, values | _without_rows(model, values["samples"]))
    most, page = MAX_POINTS, ""
    values |= _of_time(scored.timeline)
    for _ in range(4):
        packed = pack(scored, most)
        page = fill(TEMPLATE, values | _of_rows(model, scored, packed))
        excess = len(page.encode()) - MAX_BYTES
        if excess <= 0:
            break
        most = max(1, packed.shown - excess // POINT_BYTES - 1_000)
    return page


def _of_model(estimator: Autoencoder) -> dict[str, Any]:
    model = estimator.model_
    explained, more_explained = facts.explained_variances(model)
    columns, more_columns = facts.columns(model)
    code_rows, more_codes = generation.code_rows(estimator)
    return {
        "facts": facts.facts(model),
        "comparisons": facts.comparisons(model),
        "curve": charts.learning_curve(model.history),
        "width": model.network.width,
        "width_curve": charts.width_curve(model.width_choice),
        "width_why": "" if model.width_choice is None else plain(model.width_choice.why, 400),
        "own_dimension": generation.own_dimension(model.width_choice),
        "code_rows": code_rows,
        "more_codes": more_codes,
        "in_nats": bool(model.network.bottleneck.stochastic),
        "samples": generation.samples(estimator),
        "explained": explained,
        "more_explained": more_explained,
        "columns": columns,
        "more_columns": more_columns,
        "making": facts.made_with(vars(model.parts), model.fingerprint),
        "scored": None,
        "timeline": None,
        "histogram": None,
        "name": "",
    }


def _without_rows(estimator: Autoencoder, samples: DrawnRows | None) -> dict[str, Any]:
    """The top of the page of a model alone: what it learned, or how real its drawn rows look."""
    model, verdict = estimator.model_, estimator.verdict_
    if samples is None:
        learned = verdict.startswith(trust.LEARNED)
        return {
            "headline": headline.of_model(model, learned),
            "trust": trust.trust_of(verdict, estimator.findings_),
        }
    judgement = samples.judgement
    noun = "images" if samples.images or samples.side else "rows"
    top = headline.of_samples(model, judgement, noun)
    auc = None if judgement is None or np.isnan(judgement.c2st_auc) else judgement.c2st_auc
    notices, line = trust.of_samples(auc, noun)
    return {
        "headline": top,
        "trust": trust.trust_of(verdict, estimator.findings_, notices, line),
    }


def _of_time(timeline: Timeline | None) -> dict[str, Any]:
    if timeline is None:
        return {}
    shown = for_page(timeline)
    return {
        "timeline": shown,
        "machine_names": [plain(machine.name) for machine in shown.machines],
        "timeline_chart": timeline_chart(shown),
        "timeline_note": resolution(shown, shown.machines[0]),
        "timeline_events": event_lines(shown),
        "timeline_json": script_json(packed(shown)),
    }


def _of_rows(estimator: Autoencoder, scored: ScoredRows, packed: CodeMap) -> dict[str, Any]:
    points = {int(row): point for point, row in enumerate(packed.rows)}
    notices, line = trust.of_rows(scored.remarks, facts.outliers(scored))
    return {
        "scored": scored,
        "headline": headline.of_rows(scored),
        "trust": trust.trust_of(estimator.verdict_, estimator.findings_, notices, line),
        "name": plain(scored.name, 120),
        "histogram": charts.anomaly_score_histogram(scored),
        "p_values": charts.p_value_histogram(scored),
        "patterns": facts.patterns(scored),
        "map": packed,
        "map_chart": map_chart(scored, packed),
        "map_json": script_json(packed.data),
        "anomalies": facts.anomalies(scored, points),
    }
