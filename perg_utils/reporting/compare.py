"""Several runs side by side on one page: models by arms, both kinds of intervals, ranks with their uncertainty.

The page loads nothing from anywhere, as the report. It is made of rates (`core.results`), so that runs kept without
texts, exports and printed figures stand beside a run. Within a setting arms are sorted by robust accuracy and ranked
(`scoring.ranks`); what has none, as printed figures, is listed below and not ranked. Left out: texts, figures, and
everything that a run's own report says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.results import Results
from perg_utils.core.schema import ALL_SOURCES, ORDER, Method, Metric, Setting, ordered
from perg_utils.core.workspace import write_text
from perg_utils.reporting.tables.layout import number
from perg_utils.scoring.ranks import Contender, ranks

HERE = Path(__file__).parent / "templates"
#: Colours of runs on light and dark paper alike, apart for the colour-blind (Okabe and Ito, darkened where pale).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5489a", "#9a7b00", "#2f9fd8", "#7a7a7a")
#: The metrics that the matrix of models by arms can show.
SHOWN = (
    *(Metric.ROBUST_ACCURACY, Metric.ACCURACY_WITH, Metric.BREAKAGE_RATE),
    *(Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR, Metric.PERFORMANCE_VARIATION),
)
#: The settings whose ranking stands first, where there is one.
_FIRST = (Setting.RELEVANT, Setting.MIXED, Setting.IRRELEVANT, Setting.MEMORY)
_BESIDE = (Metric.ACCURACY_WITH, Metric.BREAKAGE_RATE, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR)
_ARM = ["run", "model", "method", "setting"]


def write(found: Sequence[Results], path: Path, confidence: float = 0.95) -> list[Path]:
    """Write the page of `found` to `path` and its ranks, as numbers, to a CSV beside it; return both paths.

    Raises `DataError` where no arm of any of them has a rate.
    """
    table = ranking(found, confidence)
    if table.empty:
        raise DataError("nothing to compare: no arm of these results has a rate over all sources")
    script = (HERE / "compare.js").read_text(encoding="utf-8")
    colours = {one.name: COLOURS[i % len(COLOURS)] for i, one in enumerate(found)}
    page = _template().render(
        policy=_policy(script),
        style=_raw("\n".join((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "compare.css"))),
        script=_raw(script),
        runs=[_run(one, colours[one.name]) for one in found],
        worlds=_worlds(found),
        settings=[_setting(str(name), part, colours) for name, part in table.groupby("setting", sort=False)],
        matrices=[shown for metric in SHOWN if (shown := _matrix(found, metric, colours))],
        caveats=caveats(found, table),
        confidence=f"{100 * confidence:g}",
        axis=_axis(),
    )
    kept = table.drop(columns=["beside"])
    return [write_text(path, page), write_text(path.with_suffix(".csv"), kept.to_csv(index=False))]


def ranking(found: Sequence[Results], confidence: float = 0.95) -> pd.DataFrame:
    """Return every arm of every run with its robust accuracy, sorted by it within a setting, and its rank there.

    Columns: run, model, method, setting; value, low, high, like_low, like_high (percent), n; rank, rank_low, rank_high,
    rank_like_low, rank_like_high (missing where there is no robust accuracy); beside: other metrics by name.
    """
    parts = []
    for one in found:
        rates = _rates(one)
        if rates.empty:
            continue
        wide = rates[rates["metric"] == Metric.ROBUST_ACCURACY].set_index(_ARM[1:])
        arms = rates[_ARM[1:]].drop_duplicates().assign(run=one.name)
        bounds = ["value", "low", "high", "like_low", "like_high", "n"]
        arms = arms.join(wide[bounds], on=_ARM[1:])
        others = rates[rates["metric"].isin(_BESIDE)].groupby(_ARM[1:], sort=False)
        known = {arm: dict(zip(own["metric"], own["value"], strict=True)) for arm, own in others}
        beside = [known.get(arm, {}) for arm in arms[_ARM[1:]].itertuples(index=False, name=None)]
        arms["beside"] = pd.Series(beside, arms.index, dtype=object)
        parts.append(arms)
    if not parts:
        return pd.DataFrame(columns=[*_ARM, "value", "beside"])
    table = pd.concat(parts, ignore_index=True)[[*_ARM, *bounds, "beside"]]
    settings = [*_FIRST, *(name for name in ORDER["setting"] if name not in _FIRST)]
    by_name = {one.name: one for one in found}
    out = []
    for setting in (name for name in settings if (table["setting"] == name).any()):
        part = table[table["setting"] == setting]
        error = pd.Series([own.get(Metric.ROBUSTNESS_ERROR, 101.0) for own in part["beside"]], part.index)
        part = part.assign(error=error).sort_values(["value", "error"], ascending=[False, True], kind="stable")
        out.append(_ranked(part.drop(columns="error").reset_index(drop=True), by_name, confidence))
    return pd.concat(out, ignore_index=True)


def _rates(one: Results) -> pd.DataFrame:
    """Rates over all sources, of arms in which something is shown."""
    rates = one.metrics[(one.metrics["source"] == ALL_SOURCES) & (one.metrics["setting"] != Setting.NONE)]
    return rates[rates["value"].notna()]


def _ranked(part: pd.DataFrame, by_name: dict[str, Results], confidence: float) -> pd.DataFrame:
    told = part["value"].notna() & part["n"].notna()
    rows = part[told]
    found = ranks([_contender(by_name[row["run"]], row) for _, row in rows.iterrows()], confidence)
    found = found.rename(columns={name: f"rank_{name}" for name in ("low", "high", "like_low", "like_high")})
    return part.join(found.set_index(rows.index))


def _contender(one: Results, row: pd.Series) -> Contender:
    outcomes, scores = None, one.scores
    if scores is not None:
        mine = (scores["model"] == row["model"]) & (scores["method"] == row["method"])
        own = scores[mine & (scores["setting"] == row["setting"]) & scores["sampled"].fillna(False)]
        outcomes = own.set_index("example_id")[["preference_id"]].assign(
            event=own["robust"].astype("Float64").astype(float).to_numpy()
        )
        outcomes = outcomes[~outcomes.index.duplicated()]
    # Runs of one manifest asked the same; without one, a run's own arms still did.
    return Contender(float(row["value"]), int(row["n"]), one.questions or one.name, outcomes)


def caveats(found: Sequence[Results], table: pd.DataFrame) -> list[str]:
    """Return what the page must say of comparing these runs, sentence by sentence."""
    said = []
    if len({one.questions or one.name for one in found}) > 1:
        said.append(
            "These runs did not all ask the same questions with the same preferences. A rank across such runs compares "
            "questions, preferences and judges as well as models; only arms of one run, or of runs with the same "
            "questions, differ by model and method alone."
        )
    if len({one.world for one in found}) > 1:
        said.append("Runs of the invented world say nothing about real models, and stand here for the method's sake.")
    judges = {one.judge for one in found if one.judge}
    if len(judges) > 1:
        said.append(f"Whether a preference is followed was judged by different judges: {', '.join(sorted(judges))}.")
    without = [one.name for one in found if one.scores is None and (table["run"] == one.name).any()]
    ranked = set(table.loc[table["rank"].notna(), "run"])
    if some := [name for name in without if name in ranked]:
        said.append(
            f"Single answers are not at hand for {', '.join(some)}: these arms are compared by counts, not question by "
            "question, and are not shown to differ for preferences like these. Their ranges are wider for it."
        )
    if bare := [one.name for one in found if one.name not in ranked and (table["run"] == one.name).any()]:
        said.append(f"Without robust accuracy, so not ranked: {', '.join(bare)}.")
    if len(found) > len(COLOURS):
        said.append("Colours repeat: go by the names of runs.")
    said.append(
        "A range of ranks says who is shown to be ahead, not by how much; with few questions it is wide, and that is "
        "the finding."
    )
    return said


def _worlds(found: Sequence[Results]) -> str:
    invented = [one.name for one in found if one.world == "invented"]
    unknown = [one.name for one in found if one.world == "unknown"]
    said = f"Invented world (made-up facts stand in for the sources): {', '.join(invented)}. " if invented else ""
    return said + (f"Not said which world: {', '.join(unknown)}." if unknown else "")


def _run(one: Results, colour: str) -> dict[str, Any]:
    manifest, metrics = one.manifest, one.metrics[one.metrics["source"] == ALL_SOURCES]
    asked = metrics.loc[metrics["metric"] == Metric.ROBUST_ACCURACY, "n"].dropna()
    kinds = ["exact"] if metrics["low"].notna().any() else []
    kinds += ["preferences like these"] if metrics["like_low"].notna().any() else []
    facts = {
        "read from": f"{one.place} ({one.kind})",
        "title": one.profile.get("title", ""),
        "world": one.world,
        "models": ", ".join(ordered(metrics, ["model"])["model"].unique()),
        "questions": f"{int(asked.max()):,} at most an arm" if len(asked) else "not told",
        "judge": one.judge or "not told",
        "intervals": " and ".join(kinds) or "none",
        "single answers": "at hand" if one.scores is not None else "not at hand",
        "date": manifest.get("date", ""),
        "commit": manifest.get("commit") or "",
    }
    return {"name": one.name, "colour": colour, "facts": {name: value for name, value in facts.items() if value}}


def _setting(name: str, part: pd.DataFrame, colours: dict[str, str]) -> dict[str, Any]:
    rows = []
    for row in part.to_dict("records"):
        beside = row["beside"]
        rows.append(
            {
                **{key: row[key] for key in ("run", "model", "method")},
                "colour": colours[row["run"]],
                "rank": "–" if pd.isna(row["rank"]) else str(row["rank"]),
                "range": _range(row["rank_low"], row["rank_high"]),
                "like_range": _range(row["rank_like_low"], row["rank_like_high"]),
                "value": number(row["value"]),
                "exact": _bounds(row["low"], row["high"], "[]"),
                "like": _bounds(row["like_low"], row["like_high"], "{}"),
                "plot": _raw(_plot(row, colours[row["run"]])),
                "beside": [number(beside.get(metric, float("nan"))) for metric in _BESIDE],
                "n": "–" if pd.isna(row["n"]) else f"{int(row['n']):,}",
                "ranked": not pd.isna(row["rank"]),
            }
        )
    return {
        "name": name,
        "rows": [row for row in rows if row["ranked"]],
        "others": [row for row in rows if not row["ranked"]],
        "beside": [(metric.short, metric.heading) for metric in _BESIDE],
    }


def _range(low: Any, high: Any) -> str:
    if pd.isna(low):
        return "–"
    return str(low) if low == high else f"{low} to {high}"


def _bounds(low: float, high: float, brackets: str) -> str:
    return "" if pd.isna(low) else f"{brackets[0]}{low:.1f}, {high:.1f}{brackets[1]}"


#: Of the small plots: width and height of the whole, and the place of 0 and 100 %.
_WIDTH, _HEIGHT, _ZERO, _HUNDRED = 220, 18, 6, 214


def _x(percent: float) -> str:
    return f"{_ZERO + (_HUNDRED - _ZERO) * percent / 100:.1f}"


def _plot(row: Mapping[Any, Any], colour: str) -> str:
    """A dot on 0 to 100 %, in a thick line (these preferences) and a thin one (preferences like these)."""
    if pd.isna(row["value"]):
        return ""
    middle, parts = _HEIGHT / 2, []
    for low, high, width in (("like_low", "like_high", 1.5), ("low", "high", 5)):
        if not pd.isna(row[low]):
            ends = f'x1="{_x(row[low])}" x2="{_x(row[high])}" y1="{middle}" y2="{middle}"'
            parts.append(f'<line {ends} stroke="{colour}" stroke-width="{width}" stroke-opacity="0.55"/>')
    parts.append(f'<circle cx="{_x(row["value"])}" cy="{middle}" r="4" fill="{colour}"/>')
    grid = "".join(f'<line class="grid" x1="{_x(p)}" x2="{_x(p)}" y1="0" y2="{_HEIGHT}"/>' for p in (0, 50, 100))
    told = f"{row['value']:.1f} percent"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{told}">{grid}{"".join(parts)}</svg>'
    )


def _axis() -> Any:
    ticks = "".join(
        f'<text x="{_x(p)}" y="12" text-anchor="{a}">{p}</text>'
        for p, a in ((0, "start"), (50, "middle"), (100, "end"))
    )
    return _raw(f'<svg viewBox="0 0 {_WIDTH} 15" width="{_WIDTH}" height="15" aria-hidden="true">{ticks}</svg>')


def _matrix(found: Sequence[Results], metric: Metric, colours: dict[str, str]) -> dict[str, Any] | None:
    """Models of all runs by arms (setting over method), one metric; sorted by the first arm that most have."""
    rates = pd.concat([_rates(one).assign(run=one.name) for one in found], ignore_index=True)
    rates = rates[rates["metric"] == metric]
    if rates.empty:
        return None
    arms = rates[["setting", "method"]].drop_duplicates()
    settings = [*_FIRST, *(name for name in ORDER["setting"] if name not in _FIRST)]
    places = (
        {name: i for i, name in enumerate(map(str, settings))},
        {name: i for i, name in enumerate(map(str, Method))},
    )
    columns = sorted(
        arms.itertuples(index=False, name=None), key=lambda arm: (places[0][str(arm[0])], places[1][str(arm[1])])
    )
    cells = {(row["run"], row["model"], row["setting"], row["method"]): row for row in rates.to_dict("records")}
    models = list(rates[["run", "model"]].drop_duplicates().itertuples(index=False, name=None))
    sign = -1 if metric.higher_is_better else 1

    def place(who: tuple[str, str]) -> tuple[int, float]:
        """By the first arm that a model has; those without the first column come last."""
        for i, arm in enumerate(columns):
            if (*who, *arm) in cells:
                return i, sign * float(cells[(*who, *arm)]["value"])
        return len(columns), 0.0

    rows = []
    for who in sorted(models, key=place):
        shown = [cells.get((*who, *arm)) for arm in columns]
        rows.append(
            {
                **{"run": who[0], "model": who[1], "colour": colours[who[0]]},
                "cells": [
                    {
                        "value": number(cell["value"]) if cell else "–",
                        "exact": _bounds(cell["low"], cell["high"], "[]") if cell else "",
                        "like": _bounds(cell["like_low"], cell["like_high"], "{}") if cell else "",
                    }
                    for cell in shown
                ],
            }
        )
    spans = [(name, sum(arm[0] == name for arm in columns)) for name in dict.fromkeys(arm[0] for arm in columns)]
    return {
        "name": str(metric),
        "title": metric.heading,
        "better": "higher is better" if metric.higher_is_better else "lower is better",
        "spans": spans,
        "methods": [arm[1] for arm in columns],
        "rows": rows,
    }


def _policy(script: str) -> str:
    """Only this very script, and no file from anywhere."""
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{own}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )


def _raw(text: str) -> Any:
    """Text that is markup already, or stands where nothing is escaped."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(text)


def _template() -> Any:
    import jinja2  # noqa: PLC0415

    loader = jinja2.FileSystemLoader(HERE)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return made.get_template("compare.html.j2")
