"""What a reader must keep in mind about a run: sentences, each only where it holds.

Left out: what a run's numbers say (`sentences`), and the warning of too many unscored rows (`tables.notes`).
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import Method, Setting
from perg_utils.dataset.invented_world import GROUP_SHARE
from perg_utils.scoring.rates import redrawn

#: What a judge of each kind is.
KINDS = {
    "heuristic": "rules that know the styles of the embedded models and nothing else",
    "cues": "rules that count cues of ordinary English and understand nothing",
    "llm": "a language model",
    "people": "people, who rated part of the responses; where these were drawn to balance ratings, alignment failure "
    "holds for that part only, and robustness error and robust accuracy lean on it",
    "published": "a language model, whose ratings are those of the release",
}
BASELINES = (
    "Rows are paired as in the release: with the answer without preference in their own file. Two methods of one "
    "model can so differ in their baseline, and in Q*."
)
READ_BY_THE_RELEASE = (
    "Letters are those of the original extractor. An answer in which it found none counts as wrong, as in the paper; a "
    "missing rating leaves a row out, where the paper counts it as not followed.",
    "The same questions were put to every model, but not every released file need be here: n tells.",
)
EDITS_ITS_BASELINE = (
    "Pref-Aligner edits the very answer that chooses the questions of the paper's metrics (Q*); the other methods "
    "answer anew, so that on Q* plain sensitivity to the prompt counts against them and not against it. Robust "
    "accuracy, over all questions, is free of that."
)
RULES_ALONE = (
    "Responses are read by rules alone. On genuine responses rules are silent more often with a preference than "
    "without, and what they cannot read counts as wrong, so that breakage comes out too high: the table of broken and "
    "fixed answers says how much of it could not be read. extractor.llm or extractor.base adds a layer that reads the "
    "rest."
)
TRAINED_HERE = (
    "The embedded aligner was trained to copy drafts, right and wrong alike, mostly on names that no fact is about, "
    f"while the other methods saw preferences on {100 * GROUP_SHARE:g} % of the facts only: that Pref-Aligner breaks "
    "little here is partly taught.",
    "Each embedded model is a single training run: a difference between two of them is not one of size.",
)


def reads_by_rules_alone(profile: Profile) -> bool:
    """Return whether real models' responses have no layer after the rules; those of the embedded models need none."""
    further = profile.extractor.base is not None or profile.extractor.llm is not None
    return profile.data.origin in ("hub", "local") and not further


def caveats(metrics: pd.DataFrame, profile: Profile) -> list[str]:
    """Return what a reader must keep in mind about this run."""
    judge, published, printed_only = profile.judge, profile.data.origin == "published", redrawn(metrics)
    said = [
        "The world is invented: nothing here says how a model does on real questions."
        if profile.world == "invented"
        else "",
        f"Whether a preference was followed is the reading of one judge, {judge.label}: {KINDS[judge.kind]}; "
        f"a rating of {judge.threshold} or more of 5 counts as followed.",
        "The figures stand as they are printed: without their counts no interval can be given, and a difference of "
        "one or two points may be chance."
        if printed_only
        else "Intervals cover chance among questions and, where they say so, among preferences; not the wording of "
        "prompts, nor the judge's errors.",
        BASELINES if published else "",
        *(READ_BY_THE_RELEASE if published and not printed_only else ()),
        RULES_ALONE if reads_by_rules_alone(profile) else "",
    ]
    if any(Method.PREF_ALIGNER in methods for methods in profile.grid.values()):
        placebo = " The placebo setting shows how much." if Setting.PLACEBO in profile.grid else ""
        said.append(EDITS_ITS_BASELINE + placebo)
    return [sentence for sentence in [*said, *(TRAINED_HERE if profile.data.origin == "embedded" else ())] if sentence]
