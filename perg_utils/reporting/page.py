"""One page about a run: findings, checks, figures, the responses themselves, tables, provenance.

The page loads nothing from anywhere; a policy in its head forbids it to. Its scripts and styles are inside it, and the
texts of a large run lie beside it (`browser`). Its words come from `sentences` and `limits`, its tables from `tables`,
its pictures from the files that notebook 08 saved. Left out: anything computed that no table holds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.run import Run
from perg_utils.core.schema import MISSING, ROW_ID, Setting, Status
from perg_utils.core.workspace import Workspace, write_text
from perg_utils.published.checks.reproduction import VERDICTS, bottom_line
from perg_utils.published.files import COMMIT, REPOSITORY
from perg_utils.reporting import browser, figures, tables
from perg_utils.reporting.limits import caveats
from perg_utils.reporting.sentences import asked, findings
from perg_utils.reporting.tables.forms import Table, as_html
from perg_utils.scoring.plain import near_chance, plain_answers
from perg_utils.scoring.rates import redrawn

__all__ = ["asked", "caveats", "counts", "findings", "write"]

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
VENDOR = HERE / "vendor" / "slickgrid"
SCRIPTS = [
    *(VENDOR / f"slick.{name}.js" for name in ("core", "interactions", "grid")),
    *(TEMPLATES / f"{name}.js" for name in ("rows", "row", "browser")),
]
STYLES = [VENDOR / "slick.grid.css", TEMPLATES / "report.css"]
TABLES = ("examples", "preferences", "responses", "answers", "judgements", "scores")

#: What a step cost (`run.spending`): column of the manifest, its head, and its form.
COSTS = {
    "seconds": ("seconds", "{:,.0f}"),
    "cpu_seconds": ("processor seconds", "{:,.0f}"),
    "replies": ("replies", "{:,.0f}"),
    "prompt_tokens": ("prompt tokens", "{:,.0f}"),
    "reply_tokens": ("reply tokens", "{:,.0f}"),
    "energy_kwh": ("kWh", "{:.4f}"),
    "co2_kg": ("kg CO2", "{:.4f}"),
}

NO_AUDIT = (
    "The audit reads released files, and none is at hand; what was found, above, says how to get them. What the "
    "printed figures say by themselves stands under Reproduction."
)
STUDIES = ROOT / "docs/studies.md"
NOTHING = "There are no responses on this machine to show here; what was found, above, says how to get them."


def write(workspace: Workspace, profile: Profile, manifest: dict[str, Any]) -> Path:
    """Write `report.html` from the run's saved tables and figures, and return its path.

    The responses of a run too large for one page are written to the folder `responses` beside it. Raises `DataError`
    when no figure is there.
    """
    shown = _figures(workspace.figures)
    metrics, run = workspace.read("metrics"), {name: workspace.read(name) for name in TABLES}
    scores, origins = run["scores"], workspace.run / "origins.parquet"
    if origins.is_file():
        run["origins"] = pd.read_parquet(origins, columns=[*ROW_ID, "order"])
    opened = Run(profile, workspace).with_tables(
        **{name: run[name] for name in ("scores", "answers", "judgements")}, metrics=metrics
    )
    script = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    stamps, parts = browser.save(browser.parts(run, profile.baseline), workspace.figures / browser.FOLDER)
    page = _template().render(
        title=profile.title,
        policy=_policy(script),
        style=_raw("\n".join(path.read_text(encoding="utf-8") for path in STYLES)),
        script=_raw(script),
        stamps=_raw(json.dumps(stamps)) if stamps else "",
        parts=parts,
        notes=tables.notes(opened),
        asked=asked(metrics, scores, profile),
        findings=[*_bottom_line(workspace), *(found.text for found in findings(metrics, scores, profile))],
        caveats=[*_luck(run), *caveats(metrics, profile)],
        checks=_checks(workspace, profile, NO_AUDIT if scores.empty else "Nothing was found."),
        confidence="" if redrawn(metrics) else f"{100 * profile.statistics.confidence:g}",
        figures=shown,
        tables=_shown(tables.all(opened).values()),
        counts=_raw(counts(run["responses"], scores).to_html(index=False, border=0)) if len(scores) else "",
        files=[_raw(frame.to_html(index=False, border=0)) for frame in _unread(workspace)],
        no_rows=NOTHING,
        studies=_link(STUDIES, workspace.figures),
        facts=_released(workspace) | _facts(manifest, run["judgements"]),
        steps=_raw(_steps(manifest)),
        manifest=json.dumps(manifest, indent=1, ensure_ascii=False),
    )
    return write_text(workspace.figures / "report.html", page)


def _link(file: Path, folder: Path) -> str:
    """The way from a folder of the repository to a file of it; empty for a folder elsewhere, which may be moved."""
    inside = folder.resolve().is_relative_to(ROOT.resolve())
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix() if inside else ""


def _luck(run: dict[str, pd.DataFrame]) -> list[str]:
    """What must be known of a model that guesses before anyone reads its breakage."""
    return near_chance(plain_answers(run["answers"], run["examples"])) if len(run["answers"]) else []


def counts(responses: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return, for each model, method and setting: responses, missing ones, delivery failures, fallbacks, unscored."""
    keys = ["model", "method", "setting"]
    lost = responses["status"].isin(MISSING)
    fallbacks = responses["fallback"].fillna(False).astype(int)
    by_response = responses[keys].assign(responses=1, missing=lost.astype(int), fallbacks=fallbacks)
    delivered = scores["delivered_with"].where(scores["setting"] != Setting.NONE, scores["delivered_without"])
    failures = (~delivered.fillna(True)).astype(int)
    by_score = scores[keys].assign(names_no_option=failures, unscored=(scores["status"] != Status.OK).astype(int))
    out = by_response.groupby(keys, sort=False).sum().join(by_score.groupby(keys, sort=False).sum()).reset_index()
    out = out[[*keys, "responses", "missing", "names_no_option", "fallbacks", "unscored"]]
    return out.rename(columns={"names_no_option": "name no option"})


def _checks(workspace: Workspace, profile: Profile, missing: str) -> list[dict[str, Any]]:
    """The sections that only a published release has: our figures beside the printed ones, and the audit."""
    if profile.data.origin != "published":
        return []
    run = Run(profile, workspace)
    made = [
        ("reproduction", "Does it reproduce?", _verdicts(workspace), tables.reproduction(run)),
        ("audit", "What is unsound in the release (audit)", "", tables.audit(run)),
    ]
    return [
        {"id": name, "title": title, "lead": lead, "tables": _shown(found), "missing": missing}
        for name, title, lead, found in made
    ]


def _verdicts(workspace: Workspace) -> str:
    path = workspace.run / "reproduction.parquet"
    if not path.is_file():
        return ""
    counted = (
        pd.read_parquet(path, columns=["verdict"])["verdict"].value_counts().reindex(VERDICTS).dropna().astype(int)
    )
    return f"Of {counted.sum():,} figures: {', '.join(f'{n:,} {verdict}' for verdict, n in counted.items())}."


def _bottom_line(workspace: Workspace) -> list[str]:
    """What the check of a published release comes to; nothing for another run, or where notebook 13 was not run."""
    cells, faults = (workspace.run / f"{name}.parquet" for name in ("reproduction", "audit"))
    if not (cells.is_file() and faults.is_file()):
        return []
    return bottom_line(pd.read_parquet(cells), pd.read_parquet(faults))


def _unread(workspace: Workspace) -> list[pd.DataFrame]:
    """The released files that could not be used, and the rows that have no place (by file and reason); if any."""
    files, rows = _listed(workspace, "files"), _listed(workspace, "unread")
    if files.empty:
        return []
    broken = files.loc[~files["status"].isin(["read", "missing"]), ["file", "status", "problem"]]
    lost = rows.groupby(["file", "reason"])["row"].agg(["size", "min"]).reset_index()
    lost.columns = pd.Index(["file", "reason", "rows", "first row"])
    return [frame for frame in (broken, lost) if len(frame)]


def _released(workspace: Workspace) -> dict[str, str]:
    """How many released files were read, and how many of them are those of the pinned commit."""
    files = _listed(workspace, "files")
    if files.empty or not (files["status"] == "read").any():
        return {}
    counted = files["status"].value_counts()
    others = ", ".join(f"{n:,} {status}" for status, n in counted.drop("read").items())
    verified = int(files["verified"].sum())
    said = f"{counted['read']:,} read, {verified:,} of them verified against commit {COMMIT} of {REPOSITORY}"
    return {"released files": f"{said}; {others}" if others else said}


def _listed(workspace: Workspace, name: str) -> pd.DataFrame:
    path = workspace.run / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _shown(found: Iterable[Table]) -> list[dict[str, str]]:
    return [
        {"name": t.name, "title": t.title, "caption": t.caption, "html": _raw(as_html(t))}
        for t in found
        if not t.absent
    ]


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
    facts = {
        "date": manifest["date"],
        "profile": manifest["profile"]["name"],
        "commit": manifest["commit"] or "unknown",
        "models": "; ".join(models),
        "judge": ", ".join(sorted(judgements["judge"].dropna().unique())),
        # No model is asked where the responses are those of a release: its models are in the tables.
        "prompt set": f"{manifest['prompts']['set']}: {', '.join(hashes)}" if models else "",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in manifest["seeds"].items()),
        "software": f"Python {manifest['python']}, {', '.join(packages)}",
        "machine": ", ".join(filter(None, [manifest["system"], (manifest.get("processor") or {}).get("name")])),
    }
    return {name: value for name, value in facts.items() if value}


def _steps(manifest: dict[str, Any]) -> str:
    """What each step that had ended when the page was written cost; empty where the manifest does not tell."""
    found = pd.DataFrame.from_dict(manifest.get("steps") or {}, orient="index")
    if found.empty:
        return ""
    known = [name for name in COSTS if name in found and found[name].notna().any()]
    total = found[known].sum(min_count=1).rename("all")
    rows = pd.concat([found[known], total.to_frame().T])
    shown = pd.DataFrame({"step": rows.index})
    for name in known:
        head, form = COSTS[name]
        shown[head] = ["" if pd.isna(value) else form.format(value) for value in rows[name]]
    return str(shown.to_html(index=False, border=0))


def _policy(script: str) -> str:
    """Only this very script, scripts that lie beside the page, and images inside it: nothing is ever fetched."""
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{own}' 'self' file:; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _raw(text: str) -> Any:
    """Text that is markup already, or stands where nothing is escaped."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(text)


def _template() -> Any:
    import jinja2  # noqa: PLC0415

    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    ).get_template("report.html.j2")
