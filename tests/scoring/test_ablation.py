"""The main effect of each switch of editing, with planted effects."""

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.schema import Metric
from perg_utils.scoring.ablation import switch_effects, switch_pairs

PROFILE = load_profile("ablation")


def scores(effects):
    """Every variant of the profile right as often as its switches say (shares that add up), the same in all else."""
    rng, rows = np.random.default_rng(1), []
    for model in PROFILE.models:
        if model.editing is None:
            continue
        share = 0.5 + sum(effect for name, effect in effects.items() if getattr(model.editing, name))
        right = rng.random(600) < share
        rows.append(
            pd.DataFrame(
                {
                    "example_id": [f"q{i}" for i in range(600)],
                    "preference_id": "p",
                    "model": model.name,
                    "method": "pref_aligner",
                    "setting": "relevant",
                    "sampled": True,
                    "correct_without": True,
                    "correct_with": right,
                    "followed": True,
                    "robust": right,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_pairs_differ_in_one_switch_and_belong_to_the_same_weights():
    pairs = list(switch_pairs(PROFILE))
    assert len(pairs) == 3 * 4 * 2
    assert ("keep_letter", "M.free.bare.last", "M.keep.bare.last") in pairs
    assert all(one[0] == other[0] for _, one, other in pairs)


def test_a_planted_effect_is_found_and_none_is_not():
    found = switch_effects(scores({"keep_letter": 0.2}), PROFILE).set_index("method")
    assert (
        found.loc["keep_letter", "difference"] == pytest.approx(20, abs=3)
        and found.loc["keep_letter", "p_holm"] < 0.001
    )
    others = found.loc[["show_options", "response_first"]]
    assert (others["p_holm"] > 0.05).all()
    assert (found["n"] == 8 * 600).all()
    broke = switch_effects(scores({"keep_letter": 0.2}), PROFILE, Metric.BREAKAGE_RATE).set_index("method")
    assert broke.loc["keep_letter", "difference"] == pytest.approx(-20, abs=3)


def test_a_profile_without_such_models_has_no_effects():
    assert list(switch_pairs(load_profile("demo"))) == []
    assert switch_effects(scores({}), load_profile("demo")).empty
