"""A made-up run: the tables before `scores`, with planted rates, for as many models as wanted.

`python tests/synthetic.py FOLDER [MODELS]` writes a workspace and a profile there, on which notebooks 06-09 run.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.run import Run
from perg_utils.core.schema import RELEVANT_SHOWN, ROW_ID, TABLES, Method, Setting, Source, Status, conform
from perg_utils.core.workspace import Workspace
from perg_utils.scoring.rates import metrics

NAMES = ["S", "M", "L", *(f"Llama-{i}-70B-Instruct" for i in range(4, 15))]
GRID = {
    Setting.RELEVANT: [m for m in Method if m != Method.NO_PREFERENCE],
    Setting.MIXED: [Method.ZERO_SHOT, Method.PREF_ALIGNER],
    Setting.IRRELEVANT: [Method.ZERO_SHOT, Method.PREF_ALIGNER],
    Setting.PLACEBO: [Method.ZERO_SHOT],
}
#: What a run with all controls has besides.
CONTROLS = {
    setting: [Method.ZERO_SHOT]
    for setting in (
        *(Setting.MEMORY, Setting.REPEAT, Setting.PARAPHRASE, Setting.SHUFFLED),
        *(Setting.PLACEBO_LABELLED, Setting.PLACEBO_LONG, Setting.MISLEADING),
    )
}
#: How much of the zero-shot breakage in the relevant setting is left.
SETTING_FACTOR = {Setting.RELEVANT: 1.0, Setting.MIXED: 0.8, Setting.IRRELEVANT: 0.3, Setting.PLACEBO: 0.2}
SETTING_FACTOR |= dict.fromkeys(CONTROLS, 0.2) | {Setting.REPEAT: 0.0, Setting.MEMORY: 1.5, Setting.MISLEADING: 3.0}
METHOD_FACTOR = dict(zip(GRID[Setting.RELEVANT], [1.0, 1.2, 0.9, 0.7, 0.3], strict=True))


def bank() -> pd.DataFrame:
    """The project's own preferences."""
    raw = pd.read_csv(ROOT / "data" / "preferences.csv")
    return conform("preferences", raw.assign(sources=raw["sources"].fillna("").str.split()))


def examples(n: int) -> pd.DataFrame:
    """`n` questions in turn from the three sources, each with four options and a preference of its source."""
    rows = []
    for i in range(n):
        source = list(Source)[i % 3]
        own = bank_of(source)
        rows.append(
            {
                "example_id": f"{source}-{i:05d}",
                "source": str(source),
                "subject": "made up",
                "question": f"What is thing {i}?",
                "options": ["red", "green", "blue", "grey"],
                "gold": "ABCD"[i % 4],
                "preference_id": own[(i // 3) % len(own)],
            }
        )
    return conform("examples", pd.DataFrame(rows))


@cache
def bank_of(source: Source) -> list[str]:
    """Ids of the relevant preferences of a source."""
    table = bank()
    return [p for p, sources in zip(table["preference_id"], table["sources"], strict=True) if source in sources]


def tables(
    models: int = 3,
    n: int = 240,
    seed: int = 0,
    *,
    breakage: float = 0.12,
    missing: float = 0.004,
    controls: bool = False,
) -> dict[str, pd.DataFrame]:
    """Examples, preferences, responses, answers and judgements of a run with planted rates; `controls`: with those."""
    rng, more = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    questions = examples(n)
    frames = []
    for position, model in enumerate(NAMES[:models]):
        strength = 1 - 0.5 * position / max(models - 1, 1)
        right = rng.random(n) < 0.95 - 0.1 * strength
        frames.append(_rows(questions, (model, Method.NO_PREFERENCE, Setting.NONE), right, rng, missing))
        for setting, methods in GRID.items():
            for method in methods:
                breaks = rng.random(n) < breakage * 2 * strength * SETTING_FACTOR[setting] * METHOD_FACTOR[method]
                frames.append(_rows(questions, (model, method, setting), right ^ breaks, rng, missing))
        for setting in CONTROLS if controls else ():
            breaks = more.random(n) < breakage * 2 * strength * SETTING_FACTOR[setting]
            frames.append(_rows(questions, (model, Method.ZERO_SHOT, setting), right ^ breaks, more, missing))
    rows = pd.concat(frames, ignore_index=True)
    exists = ~rows["lost"]
    said = rows["letter"].notna()
    status = np.where(~exists, Status.API_ERROR, Status.OK)
    read = np.where(~exists, Status.API_ERROR, np.where(said, Status.OK, Status.UNPARSABLE))
    rated = rows["setting"].isin(RELEVANT_SHOWN)
    judged = np.where(
        ~rated, Status.NOT_APPLICABLE, np.where(rows["judge_lost"] | ~exists, Status.UNPARSABLE, Status.OK)
    )
    ids = rows[ROW_ID]
    return {
        "examples": questions,
        "preferences": bank(),
        "responses": conform(
            "responses",
            ids.assign(
                shown_preferences=[[] for _ in range(len(ids))],
                response=("It is " + rows["letter"].fillna("unclear")).where(exists),
                stages=[[] for _ in range(len(ids))],
                status=status,
                finish_reason="stop",
                prompt_tokens=50,
                completion_tokens=9,
                seconds=0.1,
                key="0" * 16,
                fallback=(rows["method"] == Method.PREF_ALIGNER) & (rng.random(len(rows)) < 0.02),
            ),
        ),
        "answers": conform(
            "answers",
            ids.assign(
                answer=rows["letter"].where(exists),
                how="rule",
                status=read,
                layer=pd.Series("rules", ids.index).where(read == Status.OK),
                evidence=rows["letter"].where(exists),
                confidence=np.where(read == Status.OK, 0.997, np.nan),
            ),
        ),
        "judgements": conform(
            "judgements",
            ids.assign(
                judge="made-up judge",
                rating=pd.Series(rows["rating"], dtype="Int64").where(judged == Status.OK),
                explanation="",
                status=judged,
            ),
        ),
    }


def nulls(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What the made-up judge says of responses that did not know the preference: 20 % of plain ones are followed."""
    rng, rated = np.random.default_rng(7), tables["judgements"]
    matched = rated[(rated["method"] == Method.ZERO_SHOT) & (rated["setting"] == Setting.RELEVANT)]
    plain = matched.assign(method=str(Method.NO_PREFERENCE), setting=str(Setting.NONE))
    own = dict(zip(tables["examples"]["example_id"], tables["examples"]["source"], strict=True))
    others = [
        bank_of(own[e])[-1 if p != bank_of(own[e])[-1] else 0]
        for e, p in zip(matched["example_id"], matched["preference_id"], strict=True)
    ]
    parts = {"matched": matched, "plain": plain, "mismatched": matched.assign(preference_id=others)}
    for kind, follows in (("plain", 0.2), ("mismatched", 0.1)):
        parts[kind] = parts[kind].assign(rating=np.where(rng.random(len(matched)) < follows, 4, 1), status="ok")
    return conform("nulls", pd.concat([part.assign(kind=kind) for kind, part in parts.items()], ignore_index=True))


def _rows(questions, arm, right, rng, missing) -> pd.DataFrame:
    model, method, setting = arm
    n = len(questions)
    gold = questions["gold"].to_numpy()
    letter = np.where(right, gold, np.where(gold == "A", "B", "A")).astype(object)
    letter[rng.random(n) < 0.01] = None
    return pd.DataFrame(
        {
            "example_id": questions["example_id"],
            "preference_id": questions["preference_id"] if setting in RELEVANT_SHOWN else None,
            "model": model,
            "method": str(method),
            "setting": str(setting),
            "letter": letter,
            "lost": rng.random(n) < missing,
            "judge_lost": rng.random(n) < missing,
            "rating": np.where(rng.random(n) < 0.08, 2, 4),
        }
    )


def profile_text(models: int = 3, *, controls: bool = False) -> str:
    """A profile that fits the made-up run."""
    grid = GRID | (CONTROLS if controls else {})
    return yaml.safe_dump(
        {
            "name": "synthetic",
            "title": "Made-up run",
            "world": "invented",
            "data": {"origin": "embedded"},
            "prompts": "embedded",
            "grid": {str(s): [str(m) for m in methods] for s, methods in grid.items()},
            "models": [{"name": name, "model": f"data/embedded/models/{name}"} for name in NAMES[:models]],
            "judge": {"kind": "heuristic"},
        }
    )


def write(folder: Path, models: int = 3, n: int = 240) -> Path:
    """Write workspace and profile below `folder`; return the profile's path."""
    workspace = Workspace.of(folder, "synthetic")
    for name, frame in tables(models, n).items():
        workspace.write(name, frame)
    path = folder / "synthetic.yaml"
    path.write_text(profile_text(models), encoding="utf-8")
    return path


def opened(profile: Profile, **held: pd.DataFrame) -> Run:
    """Return a run of these tables, `metrics` those of `scores` unless given; nothing of it is on disk.

    Columns that a test does not care about are filled up with nulls.
    """
    held = {name: frame.reindex(columns=list(TABLES[name])) for name, frame in held.items()}
    if "metrics" not in held and "scores" in held:
        held["metrics"] = metrics(held["scores"])
    return Run(profile, Workspace.of("/nowhere", profile.name)).with_tables(**held)


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3))
