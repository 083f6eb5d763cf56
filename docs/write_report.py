"""Draws the pictures of a report in docs/images/: the page on a table made by this script.

It takes a few minutes: `pip install weasyprint pypdfium2`, then `python docs/write_report.py`.
WeasyPrint is no browser: media queries and variables of the style are put in by this script, and
the map is the one that browsers without JavaScript show.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pypdfium2
from PIL import Image
from weasyprint import HTML

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.errors import KeyholeWarning
from keyhole.report import render, score_rows

IMAGES = Path(__file__).with_name("images")
ROWS, ANOMALIES = 20_000, 0.01  # of the table; the share of rows that are anomalies
STEPS, WIDTH = 700, 5  # of training, of the code
SCREENS = {"report_light": (1280, 800, False), "report_dark": (1280, 800, True),
           "report_phone": (390, 844, False)}  # fmt: skip
COLOURS = 96  # of a picture: a screen of text needs few
TALL = 14_000  # pixels: one page of the PDF holds the whole report
COUNTRIES = {"Germany": "EUR", "France": "EUR", "Spain": "EUR", "Poland": "PLN", "Sweden": "SEK"}
LOG_AMOUNT = {"groceries": 3.3, "travel": 5.2, "electronics": 5.0, "rent": 6.8}


def payments(rows: int, seed: int) -> pd.DataFrame:
    """Payments: numbers, categories, a date, a flag, and gaps."""
    rng = np.random.default_rng(seed)
    country = pd.Series(rng.choice(list(COUNTRIES), rows, p=[0.35, 0.25, 0.15, 0.15, 0.1]))
    category = pd.Series(rng.choice(list(LOG_AMOUNT), rows, p=[0.5, 0.2, 0.2, 0.1]))
    amount = np.exp(category.map(LOG_AMOUNT) + 0.4 * rng.normal(size=rows))
    items = 1 + rng.poisson(
        category.map({"groceries": 12, "travel": 1, "electronics": 2, "rent": 0})
    )
    day = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 90, rows), unit="D")
    seconds = 3_600 * rng.normal(14, 2, rows).clip(8, 20)
    table = pd.DataFrame({
        "time": day + pd.to_timedelta(seconds.astype(int), unit="s"),
        "country": country, "currency": country.map(COUNTRIES), "category": category,
        "amount": amount.round(2),
        "fee": (0.3 + 0.012 * amount * np.exp(0.05 * rng.normal(size=rows))).round(2),
        "items": items, "weight_kg": (0.4 * items * np.exp(0.15 * rng.normal(size=rows))).round(2),
        "customer_age": rng.normal(44, 12, rows).clip(18, 80).round(),
        "member": rng.random(rows) < 0.3,
    })  # fmt: skip
    table.loc[rng.random(rows) < 0.06, "customer_age"] = np.nan
    return table


def with_anomalies(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Some rows with a wrong fee, currency, amount or hour."""
    rng = np.random.default_rng(seed)
    for i, row in enumerate(rng.choice(len(table), int(ANOMALIES * len(table)), replace=False)):
        if i % 4 == 0:
            table.loc[row, "fee"] = round(table.loc[row, "fee"] * rng.uniform(4, 9), 2)
        elif i % 4 == 1:
            table.loc[row, "currency"] = "PLN" if table.loc[row, "currency"] != "PLN" else "SEK"
        elif i % 4 == 2:
            table.loc[row, "amount"] = round(table.loc[row, "amount"] * rng.uniform(8, 30), 2)
        else:
            night = pd.Timedelta(hours=3, minutes=int(rng.integers(60)))
            table.loc[row, "time"] = table.loc[row, "time"].normalize() + night
    return table


def rules(css: str, width: int, dark: bool) -> list[tuple[str, str]]:
    """Selectors and declarations that hold on a screen of this width."""
    found, start = [], 0
    while (opening := css.find("{", start)) >= 0:
        head, depth, end = css[start:opening].strip(), 1, opening + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        body, start = css[opening + 1 : end - 1], end
        most = re.search(r"max-width: ([\d.]+)rem", head)
        if not head.startswith("@media"):
            found.append((head.replace(':not([data-theme="light"])', ""), body))
        elif ("dark" in head and dark) or (most and width <= 16 * float(most[1])):
            found += rules(body, width, dark)
    return [(head, body) for head, body in found if "[data-theme" not in head]


def style_for(css: str, width: int, dark: bool) -> tuple[str, dict[str, str]]:
    """The style as WeasyPrint understands it, and its variables."""
    own = rules(css, width, dark)
    roots = " ".join(body for head, body in own if head == ":root")
    variables = dict(re.findall(r"(--[\w-]+):\s*([^;]+);", roots))
    text = "\n".join(f"{head} {{{body}}}" for head, body in own)
    text = re.sub(r"var\((--[\w-]+)\)", lambda name: variables[name[1]], text)

    def clamped(match: re.Match[str]) -> str:
        low, share, high = (float(number) for number in match.groups())
        return f"{min(max(16 * low, width * share / 100), 16 * high)}px"

    def columns(match: re.Match[str]) -> str:
        inner = min(width, 1_088) - 56
        return f"repeat({max(1, int((inner + 32) // (16 * float(match[1]) + 32)))}, 1fr)"

    text = re.sub(r"clamp\(([\d.]+)rem, ([\d.]+)vw, ([\d.]+)rem\)", clamped, text)
    text = re.sub(r"repeat\(auto-fit, minmax\(([\d.]+)rem, 1fr\)\)", columns, text)
    text = re.sub(r"min\(100%, ([\d.]+)rem\)", r"\1rem", text)
    page = f"@page {{ size: {width}px {TALL}px; margin: 0 }}"
    page += f" html {{ background: {variables['--page']} }}"
    return f"{text}\n{page} .cells .bar {{ height: 12px; align-self: start }}", variables


def coloured(page: str, colours: dict[str, str]) -> str:
    """The page, with colours of charts as attributes: WeasyPrint's SVG knows no style sheet."""
    for kind in ("fill", "stroke"):
        pattern = rf'class="{kind}-(\w+)'
        page = re.sub(pattern, lambda m, k=kind: f'{k}="{colours["--" + m[1]]}" {m[0]}', page)
    page = page.replace('<rect class="ground"', f'<rect fill="{colours["--wash"]}"')
    for kind, name in (("bar share", "--alarm"), ("bar ", "--net")):
        page = re.sub(
            rf'(<svg class="{kind}".*?)<rect width="([\d.]+)" height="10"/>(?=</svg>|<line)',
            rf'\1<rect fill="{colours[name]}" width="\2" height="10"/>', page,
        )  # fmt: skip
    return page


def screenshot(page: str, width: int, height: int, dark: bool) -> Image.Image:
    """The first screen of the page."""
    css = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    style, colours = style_for(css, width, dark)
    page = re.sub(r"<meta http-equiv[^>]*>|<script.*?</script>", "", page, flags=re.S)
    page = re.sub(r'<details id="model".*?</details>\n</main>', "</main>", page, flags=re.S)
    page = re.sub(r"<details>(<summary>.*?</summary>).*?</details>", r"\1", page, flags=re.S)
    level = re.search(r'<p class="mark (\w+)', page)[1]
    own = colours[{"good": "--good", "note": "--other", "warn": "--alarm"}[level]]
    page = page.replace('fill="currentColor"', f'fill="{colours["--quiet"]}"')
    page = coloured(page.replace("currentColor", own), colours).replace(css, style)
    document = pypdfium2.PdfDocument(HTML(string=page).write_pdf())
    whole = document[0].render(scale=96 / 72).to_pil().convert("RGB")
    return whole.crop((0, 0, width, height)).quantize(COLOURS)


if __name__ == "__main__":
    warnings.simplefilter("ignore", KeyholeWarning)
    template = Autoencoder(width=WIDTH, training=TrainingConfig(STEPS), random_state=0)
    detector = AnomalyDetector(template).fit(payments(ROWS, 0))
    scored = score_rows(detector, with_anomalies(payments(ROWS, 1), 2), name="payments.csv")
    page = render(detector.autoencoder_, scored)
    for name, screen in SCREENS.items():
        screenshot(page, *screen).save(IMAGES / f"{name}.png", optimize=True)
