"""What goes with naming no option in the paper's released responses: a logistic model with crossed random effects.

The paper reports the rate only. For causes and cures, on the study's own models, see `delivery`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run
from perg_utils.core.schema import Category, Method, Setting, Source


def released(run: Run, model: str = "Mixtral-8x7B") -> pd.DataFrame:
    """Return the released zero_shot responses of a model, a row each, from a run of the profile `published`.

    Columns: example_id, preference_id, source, category, words, named_none. Raises `DataError` where there are none.
    """
    scores = run.read("scores")
    keys = ["example_id", "preference_id", "model", "method", "setting"]
    own = scores[
        (scores["model"] == model) & (scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)
    ]
    if own.empty:
        raise DataError(f"no released zero_shot response of {model} in {run.workspace.run}")
    texts = run.read("responses")[[*keys, "response"]]
    both = own.merge(texts, on=keys, validate="1:1")
    both = both[both["delivered_with"].notna() & both["response"].notna()]
    out = both[["example_id", "preference_id", "source", "category"]].reset_index(drop=True)
    out["words"] = [len(str(text).split()) for text in both["response"]]
    out["named_none"] = ~both["delivered_with"].astype(bool).to_numpy()
    return out


class Crossed(NamedTuple):
    """Odds ratios of naming no option (value, low, high: 95 %; n rows), by term and by preference, and spreads."""

    #: A row a fixed term: term, value, low, high, n.
    odds: pd.DataFrame
    #: Standard deviation of log odds, of `questions` and of `preferences`.
    spread: dict[str, float]
    #: A row a preference, against the others of its category: preference_id, category, value, low, high, n.
    preferences: pd.DataFrame


def crossed(rows: pd.DataFrame) -> Crossed:
    """Return what goes with naming no option, from a logistic model of the rows of `released`.

    Source, category and length (log words, and its square) are fixed effects, questions and preferences crossed random
    ones (statsmodels, variational: its bounds are too narrow rather than too wide).
    """
    from scipy import sparse  # noqa: PLC0415
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM  # noqa: PLC0415 - slow to import

    log = np.log(rows["words"].clip(lower=1))
    log = (log - log.mean()) / np.log(2)
    held: dict[str, np.ndarray] = {"intercept": np.ones(len(rows)), "length doubled": log.to_numpy()}
    held["length doubled, squared"] = (log**2).to_numpy()
    for name, levels in (("source", [str(s) for s in Source]), ("category", [str(c) for c in Category])):
        present = [level for level in levels if (rows[name] == level).any()]
        held |= {f"{level} against {present[0]}": (rows[name] == level).to_numpy(float) for level in present[1:]}
    groups = [pd.Categorical(rows[name]) for name in ("example_id", "preference_id")]
    blocks = [
        sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), group.codes)), (len(rows), len(group.categories)))
        for group in groups
    ]
    ident = np.repeat([0, 1], [len(group.categories) for group in groups])
    exog = np.column_stack(list(held.values()))
    model = BinomialBayesMixedGLM(rows["named_none"].to_numpy(float), exog, sparse.hstack(blocks, "csr"), ident)
    fit = model.fit_vb(fit_method="L-BFGS-B")  # the default keeps a dense matrix of all effects
    mean, deviation = np.asarray(fit.fe_mean), np.asarray(fit.fe_sd)
    out = pd.DataFrame({"term": list(held), "value": np.exp(mean), "n": len(rows)})
    out["low"], out["high"] = np.exp(mean - 1.96 * deviation), np.exp(mean + 1.96 * deviation)
    spread = dict(zip(("questions", "preferences"), np.exp(np.asarray(fit.vcp_mean)).tolist(), strict=True))
    odds = out[out["term"] != "intercept"][["term", "value", "low", "high", "n"]].reset_index(drop=True)
    own = ident == 1
    centre, around = np.asarray(fit.vc_mean)[own], np.asarray(fit.vc_sd)[own]
    preferences = pd.DataFrame({"preference_id": groups[1].categories, "value": np.exp(centre)})
    preferences["low"], preferences["high"] = np.exp(centre - 1.96 * around), np.exp(centre + 1.96 * around)
    known = rows.groupby("preference_id")["category"].agg(["first", "size"]).set_axis(["category", "n"], axis=1)
    return Crossed(odds, spread, preferences.join(known, on="preference_id"))
