"""The report: one HTML file that opens offline, and that runs and loads nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.progress import stage
from keyhole.report import facts, figures, generation
from keyhole.report.codemap import MOST_POINTS, CodeMap, pack
from keyhole.report.rows import Asked
from keyhole.report.words import percent, plain, script_json

if TYPE_CHECKING:
    from jinja2 import Template


MOST_BYTES = 1_000_000
POINT_BYTES = 8  # of the page, for a point of the map, after base64
HERE = Path(__file__).parent


def render(model: Autoencoder, asked: Asked | None) -> str:
    """The page on a fitted model, and on the rows asked about where there are any.

    At most a megabyte: the map shows fewer points where names and texts need the room.
    """
    stage("writing the page")
    said = _of_model(model)
    if asked is None or not len(asked):
        return _fill(said)
    most, page = MOST_POINTS, ""
    for _ in range(4):
        packed = pack(asked, most)
        page = _fill(said | _of_rows(asked, packed))
        excess = len(page.encode()) - MOST_BYTES
        if excess <= 0:
            break
        most = max(1, packed.shown - excess // POINT_BYTES - 1_000)
    return page


def _of_model(model: Autoencoder) -> dict[str, Any]:
    skills, more_skills = facts.skills(model)
    columns, more_columns = facts.columns(model)
    code_rows, more_codes = generation.code_rows(model)
    choice = model.width_choice_
    return {
        "verdict": facts.judged(model),
        "facts": facts.facts(model),
        "contests": facts.contests(model),
        "curve": figures.learning_curve(model.run_),
        "width": model.network_.width,
        "width_curve": generation.width_curve(choice),
        "width_why": "" if choice is None else plain(choice.why, 400),
        "own_dimension": generation.own_dimension(choice),
        "code_rows": code_rows,
        "more_codes": more_codes,
        "priced": bool(model.network_.bottleneck.noisy),
        "samples": generation.samples(model),
        "skills": skills,
        "more_skills": more_skills,
        "columns": columns,
        "more_columns": more_columns,
        "making": facts.making(model),
        "asked": None,
    }


def _of_rows(asked: Asked, packed: CodeMap) -> dict[str, Any]:
    points = {int(row): point for point, row in enumerate(packed.rows)}
    strongest = facts.anomalies(asked, points)
    return {
        "asked": asked,
        "name": plain(asked.name, 120),
        "summary": facts.asked_in_words(asked),
        "remarks": [plain(remark, 400) for remark in asked.remarks],
        "calibrated": facts.calibrated(asked),
        "trust": facts.trust(asked),
        "histogram": figures.anomaly_score_histogram(asked),
        "p_values": figures.p_value_histogram(asked),
        "patterns": facts.patterns(asked),
        "map": packed,
        "shares": [percent(share) for share in packed.shares],
        "map_json": script_json(packed.data),
        "anomalies": strongest,
        "beside": strongest[: facts.MOST_BESIDE],
    }


def _fill(said: dict[str, Any]) -> str:
    return fill("page.html.j2", said)


def fill(template: str, said: dict[str, Any]) -> str:
    """A template filled in; its policy allows the page's own style and scripts by their hash.

    Images are those that stand in the page as data.
    """
    from markupsafe import Markup

    own = {name: _file(name) for name in ("style.css", "theme.js", "map.js")}
    scripts = " ".join(_hash(own[name]) for name in ("theme.js", "map.js"))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {_hash(own['style.css'])}; "
        "img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    whole = ("curve", "width_curve", "histogram", "p_values", "map_json")
    drawn = {name: Markup(said[name]) for name in whole if said.get(name)}
    inside = {name.partition(".")[0]: Markup(text) for name, text in own.items()}
    return _template(template).render(said | drawn | {"own": inside, "policy": policy})


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rooms = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return rooms.get_template(name)


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
