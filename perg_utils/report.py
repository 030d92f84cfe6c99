"""One self-contained page about a run: what was asked, what was found, tables, figures, provenance.

`findings` puts the paper's main results (section 4) into sentences whose numbers come from the tables. The page
loads nothing from anywhere. Left out: a browser of single responses.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd

from . import figures, tables
from .embedded.world import GROUP_SHARE
from .errors import DataError
from .judging import judge_label
from .profile import Profile
from .schema import ALL_SOURCES, Method, Metric, Setting, Status
from .statistics import against_method, against_setting, compare, stand_ins
from .table_forms import as_html
from .workspace import Workspace, write_text

TEMPLATES = Path(__file__).parent / "templates"


def write(workspace: Workspace, profile: Profile, manifest: dict[str, Any]) -> Path:
    """Write `report.html` from the run's saved tables and figures, and return its path.

    Raises `DataError` when no figure is there.
    """
    metrics, scores = workspace.read("metrics"), workspace.read("scores")
    responses, judgements = workspace.read("responses"), workspace.read("judgements")
    page = _template().render(
        title=profile.title,
        notes=tables.notes(metrics, profile),
        asked=asked(profile, scores),
        findings=findings(metrics, scores, profile),
        caveats=caveats(profile),
        confidence=f"{100 * profile.statistics.confidence:g}",
        figures=_figures(workspace.figures),
        tables=[
            {"name": t.name, "title": t.title, "caption": t.caption, "html": as_html(t)}
            for t in tables.all_tables(metrics, scores, profile)
        ],
        counts=counts(responses, scores).to_html(index=False, border=0),
        facts=_facts(manifest, judgements),
        manifest=json.dumps(manifest, indent=1, ensure_ascii=False),
    )
    return write_text(workspace.figures / "report.html", page)


def asked(profile: Profile, scores: pd.DataFrame) -> list[str]:
    """Return the question of the study and the size of this run, in sentences."""
    questions = scores["example_id"].nunique()
    # A pairing starts from the plain answers of the model that it borrows: those are no answers of its own.
    pairings = [m for m in stand_ins(profile) if m in set(scores["model"])]
    models, rows = scores["model"].nunique(), len(scores[~_borrowed(scores, pairings)])
    put_to = f"{models - len(pairings)} models" + (f" and {_pairings(pairings, profile)}" if pairings else "")
    sources = ", ".join(f"{n:,} {source}" for source, n in scores.groupby("source")["example_id"].nunique().items())
    settings = "; ".join(f"{setting}: {', '.join(methods)}" for setting, methods in profile.grid.items())
    return [
        "Does a language model that knows an answer still give it when the user asks for a certain manner of reply? "
        "Each question is asked without a preference and with one, and both answers are read, checked and compared.",
        f"{questions:,} questions ({sources}) were put to {put_to}: {rows:,} answers. Methods by setting: {settings}.",
    ]


def findings(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> list[str]:
    """Return the bottom line as sentences, each only where the run holds the rows it is about."""
    zero_shot = metrics[(metrics["method"] == Method.ZERO_SHOT) & (metrics["source"] == ALL_SOURCES)]
    relevant = zero_shot[zero_shot["setting"] == Setting.RELEVANT]
    base = metrics[(metrics["method"] == Method.NO_PREFERENCE) & (metrics["source"] == ALL_SOURCES)]
    said = [
        _range(base, Metric.ACCURACY_WITHOUT, "Without a preference the models answer {} of the questions right."),
        _range(
            relevant,
            Metric.BREAKAGE_RATE,
            "With one relevant preference in the prompt (zero_shot), {} of the answers that were right turn wrong "
            "(breakage).",
        ),
        _placebo(scores, profile),
        _range(relevant, Metric.ALIGNMENT_FAILURE, "The preference is not followed in {} (alignment failure)."),
        _range(relevant, Metric.ROBUSTNESS_ERROR, "One or the other goes wrong in {} (robustness error)."),
        *(
            _range(zero_shot[zero_shot["setting"] == s], Metric.BREAKAGE_RATE, f"In the setting {s} breakage is {{}}.")
            for s in (Setting.MIXED, Setting.IRRELEVANT)
        ),
        _aligner(scores, profile),
        _range(
            relevant, Metric.DELIVERY_FAILURE, "With a relevant preference {} of the answers name no option at all."
        ),
    ]
    return [sentence for sentence in said if sentence]


def caveats(profile: Profile) -> list[str]:
    """Return what a reader must keep in mind about this run."""
    kind = (
        "rules that know the styles of the embedded models and nothing else"
        if profile.judge.kind == "heuristic"
        else "a language model"
    )
    said = [
        f"Whether a preference was followed is the reading of one judge, {judge_label(profile)}: {kind}; "
        f"a rating of {profile.judge.threshold} or more of 5 counts as followed.",
        "Intervals cover chance among questions, not the wording of prompts and preferences, nor the judge's errors.",
    ]
    if profile.world == "invented":
        said.insert(0, "The world is invented: nothing here says how a model does on real questions.")
    if any(Method.PREF_ALIGNER in methods for methods in profile.grid.values()):
        said.append(
            "Pref-Aligner edits the very answer it is compared with; the other methods answer anew, so that plain "
            "sensitivity to the prompt counts against them and not against it. The placebo setting shows how much."
        )
    if profile.data.origin == "embedded":
        said += [
            "The embedded aligner was trained to copy drafts, right and wrong alike, mostly on names that no fact is "
            f"about, while the other methods saw preferences on {100 * GROUP_SHARE:g} % of the facts only: that "
            "Pref-Aligner breaks little here is partly taught.",
            "Each embedded model is a single training run: a difference between two of them is not one of size.",
        ]
    return said


def counts(responses: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return, for each model, method and setting: responses, missing ones, delivery failures, fallbacks, unscored."""
    keys = ["model", "method", "setting"]
    lost = ~responses["status"].isin([Status.OK, Status.REFUSED, Status.UNPARSABLE])
    fallbacks = responses["fallback"].fillna(False).astype(int)
    by_response = responses[keys].assign(responses=1, missing=lost.astype(int), fallbacks=fallbacks)
    delivered = scores["delivered_with"].where(scores["setting"] != Setting.NONE, scores["delivered_without"])
    failures = (~delivered.fillna(True)).astype(int)
    by_score = scores[keys].assign(names_no_option=failures, unscored=(scores["status"] != Status.OK).astype(int))
    out = by_response.groupby(keys, sort=False).sum().join(by_score.groupby(keys, sort=False).sum()).reset_index()
    out = out[[*keys, "responses", "missing", "names_no_option", "fallbacks", "unscored"]]
    return out.rename(columns={"names_no_option": "name no option"})


def _borrowed(scores: pd.DataFrame, pairings: list[str]) -> pd.Series:
    return scores["model"].isin(pairings) & (scores["setting"] == Setting.NONE)


def _pairings(names: list[str], profile: Profile) -> str:
    """E.g. `1 pairing of two of them (S+L: S answers, L aligns)`."""
    whose = stand_ins(profile)
    told = [f"{name}: {whose[name]} answers, {profile.model(name).aligner or whose[name]} aligns" for name in names]
    return f"{len(names)} pairing{'s' if len(names) > 1 else ''} of two of them ({'; '.join(told)})"


def _placebo(scores: pd.DataFrame, profile: Profile) -> str:
    pairs = [(ref, arm) for ref, arm in against_setting(scores, Setting.PLACEBO) if arm.method == Method.ZERO_SHOT]
    # Compared and corrected as in the table, then the relevant setting is told.
    found = compare(scores, pairs, Metric.BREAKAGE_RATE, profile.statistics, profile.seed)
    found = found[found["setting"] == Setting.RELEVANT]
    if found.empty:
        return ""
    return (
        "A neutral sentence in place of the preference breaks "
        f"{_span(found, 'reference_value', '{:.1f} %')}; on the same questions the preference changes this by "
        f"{_points(found)} points, {_clear(found)}."
    )


def _aligner(scores: pd.DataFrame, profile: Profile) -> str:
    pairs = [(ref, arm) for ref, arm in against_method(scores, stand_ins(profile)) if arm.method == Method.PREF_ALIGNER]
    found = compare(scores, pairs, Metric.ROBUSTNESS_ERROR, profile.statistics, profile.seed)
    found = found[found["setting"] == Setting.RELEVANT]
    if found.empty:
        return ""
    return (
        f"Pref-Aligner changes the robustness error of zero_shot by {_points(found)} points on the same questions "
        f"(below zero is better), {_clear(found)}."
    )


def _clear(found: pd.DataFrame) -> str:
    clear = int((found["p_holm"] < 0.05).sum())
    return (
        f"a clear difference in {clear} of {len(found)} comparisons (exact McNemar, p < 0.05 as corrected in the table)"
    )


def _points(found: pd.DataFrame) -> str:
    shown = found if len(found) <= 4 else found.sort_values("difference").iloc[[0, -1]]
    texts = [f"{r.difference:+.1f} [{r.low:+.1f}, {r.high:+.1f}] ({r.model})" for r in shown.itertuples()]
    return ", ".join(texts) if len(found) <= 4 else " to ".join(texts)


def _span(found: pd.DataFrame, column: str, form: str) -> str:
    ordered = found.dropna(subset=column).sort_values(column, kind="stable")
    if ordered.empty:
        return "an unknown share"
    ends = [f"{form.format(ordered[column].iloc[i])} ({ordered['model'].iloc[i]})" for i in (0, -1)]
    return ends[0] if len(ordered) == 1 else " to ".join(ends)


def _range(rows: pd.DataFrame, metric: Metric, sentence: str) -> str:
    """`sentence` with "4.1 % [2.0, 7.3] (L) to 9.9 % [...] (S)" put in; empty where there is no value."""
    own = rows[(rows["metric"] == metric) & rows["value"].notna()].sort_values("value", kind="stable")
    if own.empty:
        return ""
    ends = [f"{r.value:.1f} % [{r.low:.1f}, {r.high:.1f}] ({r.model})" for r in own.iloc[[0, -1]].itertuples()]
    return sentence.format(ends[0] if len(own) == 1 else " to ".join(ends))


def _figures(folder: Path) -> list[dict[str, str]]:
    found = [(name, folder / f"{name}.png") for name in figures.CAPTIONS]
    shown = [(name, path) for name, path in found if path.is_file()]
    if not shown:
        raise DataError(f"no figure in {folder}; run the step before: ./run_all.sh --only 08_render_figures")
    return [
        {
            "name": name,
            "title": figures.CAPTIONS[name][0],
            "caption": figures.CAPTIONS[name][1],
            "data": base64.b64encode(path.read_bytes()).decode(),
        }
        for name, path in shown
    ]


def _facts(manifest: dict[str, Any], judgements: pd.DataFrame) -> dict[str, str]:
    models = [
        f"{name}: {m['model']}{' @ ' + m['revision'] if m['revision'] else ''}"
        for name, m in manifest["models"].items()
    ]
    packages = [f"{name} {number}" for name, number in manifest["packages"].items() if number]
    hashes = [f"{name} {value}" for name, value in manifest["prompts"]["hashes"].items()]
    return {
        "date": manifest["date"],
        "profile": manifest["profile"]["name"],
        "commit": manifest["commit"] or "unknown",
        "models": "; ".join(models),
        "judge": ", ".join(sorted(judgements["judge"].dropna().unique())),
        "prompt set": f"{manifest['prompts']['set']}: {', '.join(hashes)}",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in manifest["seeds"].items()),
        "software": f"Python {manifest['python']}, {', '.join(packages)}",
        "machine": manifest["system"],
    }


def _template() -> Any:
    import jinja2  # noqa: PLC0415

    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    ).get_template("report.html.j2")
