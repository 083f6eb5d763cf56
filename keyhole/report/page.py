"""The report: one self-contained HTML file that opens offline."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.progress import stage
from keyhole.report import charts, facts, figures, generation
from keyhole.report.codemap import MOST_POINTS, CodeMap, pack
from keyhole.report.rows import ScoredRows
from keyhole.report.words import percent, plain, script_json

MOST_BYTES = 1_000_000
POINT_BYTES = 8  # of the page, for a point of the map, after base64
TEMPLATE = "page.html.j2"


def render(model: Autoencoder, scored: ScoredRows | None) -> str:
    """The page on a fitted model, and on scored rows if there are any.

    At most about a megabyte: the map shows fewer points if names and texts need the space.
    """
    stage("writing the page")
    values = _of_model(model)
    if scored is None or not len(scored):
        return fill(TEMPLATE, values)
    most, page = MOST_POINTS, ""
    for _ in range(4):
        packed = pack(scored, most)
        page = fill(TEMPLATE, values | _of_rows(scored, packed))
        excess = len(page.encode()) - MOST_BYTES
        if excess <= 0:
            break
        most = max(1, packed.shown - excess // POINT_BYTES - 1_000)
    return page


def _of_model(model: Autoencoder) -> dict[str, Any]:
    explained, more_explained = facts.explained_variances(model)
    columns, more_columns = facts.columns(model)
    code_rows, more_codes = generation.code_rows(model)
    choice = model.model_.width_choice
    return {
        "verdict": facts.verdict(model),
        "facts": facts.facts(model),
        "comparisons": facts.comparisons(model),
        "curve": figures.learning_curve(model.model_.history),
        "width": model.model_.network.width,
        "width_curve": generation.width_curve(choice),
        "width_why": "" if choice is None else plain(choice.why, 400),
        "own_dimension": generation.own_dimension(choice),
        "code_rows": code_rows,
        "more_codes": more_codes,
        "in_nats": bool(model.model_.network.bottleneck.stochastic),
        "samples": generation.samples(model),
        "explained": explained,
        "more_explained": more_explained,
        "columns": columns,
        "more_columns": more_columns,
        "making": facts.making(model),
        "scored": None,
    }


def _of_rows(scored: ScoredRows, packed: CodeMap) -> dict[str, Any]:
    points = {int(row): point for point, row in enumerate(packed.rows)}
    strongest = facts.anomalies(scored, points)
    return {
        "scored": scored,
        "name": plain(scored.name, 120),
        "summary": facts.rows_in_words(scored),
        "remarks": [plain(remark, 400) for remark in scored.remarks],
        "calibrated": facts.calibrated(scored),
        "trust": facts.trust(scored),
        "histogram": figures.anomaly_score_histogram(scored),
        "p_values": figures.p_value_histogram(scored),
        "patterns": facts.patterns(scored),
        "map": packed,
        "shares": [percent(share) for share in packed.shares],
        "map_json": script_json(packed.data),
        "anomalies": strongest,
        "beside": strongest[: facts.MOST_BESIDE_MAP],
    }


def fill(template: str, values: dict[str, Any]) -> str:
    """A filled-in template whose security policy allows only its own style, scripts and data."""
    from markupsafe import Markup

    own = {name: _file(name) for name in ("style.css", "theme.js", "map.js")}
    scripts = " ".join(_hash(own[name]) for name in ("theme.js", "map.js"))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {_hash(own['style.css'])}; "
        "img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    drawn_names = ("curve", "width_curve", "histogram", "p_values", "map_json")
    drawn = {name: Markup(values[name]) for name in drawn_names if values.get(name)}
    inside = {name.partition(".")[0]: Markup(text) for name, text in own.items()}
    return charts.template(template).render(values | drawn | {"own": inside, "policy": policy})


def _file(name: str) -> str:
    return (charts.HERE / name).read_text(encoding="utf8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
