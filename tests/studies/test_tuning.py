import json
import shutil

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig, ProfileError, StatisticsConfig, TuningConfig
from perg_utils.core.run import open_run
from perg_utils.dataset.preferences import load_bank, relevant_ids
from perg_utils.embedded import styles
from perg_utils.engines.base import Decoding, EngineError, Request
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import find_model
from perg_utils.engines.open import open_engine
from perg_utils.run import pipeline
from perg_utils.studies import arms
from perg_utils.studies.tuning import material, outcomes, training
from perg_utils.studies.tuning.material import Candidate, Lesson, Pool

S = ModelConfig(name="S", model="data/embedded/models/S", dtype="float32")
SMALL = TuningConfig(sizes=[16], seeds=2, arms=["curated", "random"], candidates=48, shown=32)


def lesson(number: int, reply: str = "In short, salt (B).") -> Lesson:
    asked = f"Question: What is the craft of Belun? Options: (A) iron (B) salt Preference: {number}"
    return Lesson((("system", "Answer for the user."), ("user", asked)), reply, f"q{number}")


def pool(candidates: int = 60) -> Pool:
    """Two of three answers are right, one of ten edits is unreadable."""
    styled = [
        Candidate(lesson(n), n % 3 > 0, None if n % 10 == 0 else lesson(n, f"edited {n}")) for n in range(candidates)
    ]
    return Pool(styled, [lesson(n, "unchanged") for n in range(100, 108)], [lesson(n, "plain") for n in range(5)])


def test_what_adapters_are_tried_with_is_never_taught():
    bank = load_bank()
    parts = material.split(bank, TuningConfig())
    category = bank.set_index("preference_id")["category"]
    assert not set(parts.taught) & {*parts.kept, *parts.new}
    assert {*parts.taught, *parts.kept, *parts.new} == set(bank.loc[bank["relevant"], "preference_id"])
    assert set(category[parts.new]) == {"Creative"} and "Creative" not in set(category[[*parts.taught, *parts.kept]])
    assert set(parts.kept) <= styles.HELD_OUT, "nor did the embedded models' own training show them"
    for source in ("TQA", "CQA", "MMLU"):
        assert set(relevant_ids(bank, source)) & set(parts.taught) and set(relevant_ids(bank, source)) & set(parts.kept)


def test_what_models_wrote_is_counted_by_letter():
    letters = ["A", "A", "B", None]
    styled = [Candidate(lesson(n), n in (0, 2), None, letter) for n, letter in enumerate(letters)]
    found = material.written({"S": Pool(styled, [], [])}).set_index("what")
    assert found["value"].to_dict() == {
        "right": 50,
        "names A, of all with a letter": pytest.approx(200 / 3),
        "names A, of the right ones": 50,
    }
    assert found["n"].tolist() == [4, 3, 2] and found["low"].isna().all()
    silent = material.written({"S": Pool([Candidate(lesson(1), False, None)], [], [])})
    assert silent["what"].tolist() == ["right"]


def test_all_arms_have_the_same_size_and_what_they_say():
    held, size = pool(), 20
    every = {arm: material.lessons(held, arm, size, seed=1) for arm in TuningConfig().arms}
    assert {len(one) for one in every.values()} == {size}
    right = {one.lesson for one in held.styled if one.right}
    assert set(every["curated"]) <= right and not set(every["naive"]) <= right and not set(every["random"]) <= right
    assert [one for one in every["naive"] if one in right] == every["curated"][
        : sum(x in right for x in every["naive"])
    ]
    assert set(every["curated_more"][:10]) <= right and {x.reply for x in every["curated_more"][10:]} == {"unchanged"}
    assert all(one.reply.startswith("edited") for one in every["distilled"])
    assert len(set(every["no_preference"])) == 5, "five plain answers, taken again"
    assert (
        material.lessons(held, "random", size, seed=1) == every["random"] != material.lessons(held, "random", size, 2)
    )
    with pytest.raises(DataError, match="arm curated: 40 training samples, 50 wanted"):
        material.lessons(held, "curated", 50, seed=1)


def test_the_blind_filter_takes_from_what_the_curated_one_saw():
    held, size = pool(90), 30
    for seed in (1, 2, 3):
        curated, blind = (material.lessons(held, arm, size, seed) for arm in ("curated", "random"))
        naive = material.lessons(held, "naive", 90, seed)
        seen = naive[: naive.index(curated[-1]) + 1]
        assert set(blind) <= set(seen) and len(set(blind)) == size


def test_steps_are_those_of_the_size_and_not_of_the_arm():
    config = TuningConfig()
    assert [training.steps(n, config) for n in (64, 256, 1024, 4096)] == [32, 32, 64, 256]


def test_an_adapter_learns_is_kept_and_goes_onto_its_model_in_a_profile(tmp_path):
    taught = [lesson(n, "Imagine it in a song (B).") for n in range(16)]
    config = SMALL.model_copy(update={"shown": 320, "learning_rate": 1e-2})
    folder = training.train(S, taught, config, 1, tmp_path / "S" / "one")
    record = json.loads((folder / training.RECORD).read_text())
    assert record["loss"][-1] < record["loss"][0] / 4 and record["steps"] == 20 and record["samples"] == 16
    before = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    training.train(S, taught, config, 1, folder)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == before, "not trained again"
    training.train(S, taught[:15], config, 1, folder)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns > before, "of other lessons"

    tuned = S.model_copy(update={"adapter": str(folder)})
    request = Request(taught[0].messages, Decoding(24))
    [(_, own)], [(_, plain)] = (list(open_engine(model).generate([request])) for model in (tuned, S))
    assert "song" in own.text and "song" not in plain.text
    identity, bare = open_engine(tuned).identity, open_engine(S).identity
    assert {**identity} == {**bare, "adapter": identity["adapter"]}, "keys of models without one stay as they were"

    other = shutil.copytree(folder, tmp_path / "moved")
    assert open_engine(S.model_copy(update={"adapter": str(other)})).identity == identity, "known by its content"
    misfit = ModelConfig(name="M", model="data/embedded/models/M", dtype="float32", adapter=str(folder))
    with pytest.raises(EngineError, match="does not load onto data/embedded/models/M"):
        list(open_engine(misfit).generate([request]))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(EngineError, match="there is no adapter in"):
        list(open_engine(tuned).generate([request]))
    with pytest.raises(EngineError, match="adapter folder '/nowhere/at/all' does not exist"):
        open_engine(S.model_copy(update={"adapter": "/nowhere/at/all"}))


def test_a_batch_that_goes_in_parts_has_the_gradient_of_the_whole(monkeypatch):
    checkpoint = Checkpoint(S, find_model(S, fetch=False))
    taught = [lesson(n, "In short, salt (B)." + " It is known for it." * (n % 4)) for n in range(7)]
    batch = training._encode(checkpoint, taught, "S")
    model, found = checkpoint.weights.float(), {}
    for name, room in {"whole": 10**9, "one by one": 1, "parts": 3 * max(len(one.tokens) for one in batch)}.items():
        monkeypatch.setattr(training, "_AT_A_TIME", room * model.config.num_hidden_layers * model.config.hidden_size)
        model.zero_grad()
        loss = training._gradient(model, batch)
        found[name] = loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for loss, gradient in found.values():
        assert loss == pytest.approx(found["whole"][0], rel=1e-5)
        assert torch.allclose(gradient, found["whole"][1], atol=1e-5) and gradient.abs().max() > 1e-3


def test_a_bad_profile_is_refused():
    with pytest.raises(ProfileError, match="tuning: needed for study 'tuning'"):
        load_profile("demo", ["tuning={sizes: [16]}"])
    with pytest.raises(ProfileError, match="adapter goes onto weights that are run in process"):
        load_profile("demo", ["models=[{name: x, engine: api, model: m, adapter: here}]"])


@pytest.mark.parametrize("seed_effect", [0.0, 3.0])
def test_the_mixed_model_is_that_of_a_statistics_package(seed_effect):
    rng = np.random.default_rng(4)
    rows = [
        {"model": model, "seed": seed, "difference": base + seed_effect * effect + rng.normal()}
        for seed, effect in enumerate(rng.normal(size=6))
        for model, base in {"S": 1.0, "M": 4.0, "L": -2.0}.items()
    ]
    frame = pd.DataFrame(rows)
    mean, error, free = outcomes.mixed(frame)
    fit = smf.mixedlm("difference ~ C(model, Sum)", frame, groups="seed").fit(reml=True)
    assert mean == pytest.approx(fit.fe_params["Intercept"]) and free == 5
    assert error == pytest.approx(fit.bse_fe["Intercept"], rel=0.02)


def test_contrasts_are_paired_by_seed_and_leave_out_what_was_not_trained():
    rows = [
        {"model": model, "arm": arm, "size": 64, "seed": seed, "measure": outcomes.MEASURES[0], "value": value, "n": 9}
        for model in ("S", "L")
        for seed in (1, 2, 3)
        for arm, value in {"curated": 80 + 5 * seed, "random": 78 + 5 * seed + (seed == 2) / 2}.items()
    ]
    found = outcomes.contrasts(pd.DataFrame(rows), StatisticsConfig())
    assert found["question"].tolist() == ["the filter"] and found["n"].tolist() == [6]
    row = found.iloc[0]
    assert row["difference"] == pytest.approx(2 - 1 / 6) and row["p"] < 0.01, "seeds differ by 5 points, pairs do not"
    assert row["low"] < row["difference"] < row["high"] and row["p"] == row["p_holm"]
    curve = outcomes.curves(pd.DataFrame(rows), StatisticsConfig())
    assert curve["n"].tolist() == [3] * 4 and (curve["low"] < curve["value"]).all()


def test_seeds_that_came_to_the_same_have_no_interval_and_no_p():
    rows = [
        {"model": "S", "arm": arm, "size": 64, "seed": seed, "measure": outcomes.MEASURES[0], "value": value, "n": 60}
        for seed in (1, 2)
        for arm, value in {"curated": 8.3 + seed * 1e-14, "random": 10.0}.items()
    ]
    row = outcomes.contrasts(pd.DataFrame(rows), StatisticsConfig()).iloc[0]
    assert row["difference"] == pytest.approx(-1.7) and row[["low", "high", "joint_low", "p", "p_holm"]].isna().all()
    assert outcomes.curves(pd.DataFrame(rows), StatisticsConfig())[["low", "high"]].isna().all(axis=None)


def test_the_study_runs_in_miniature(tmp_path):
    overrides = (
        "data.limit=3",
        "models=[{name: S, model: data/embedded/models/S, dtype: float32}]",
        f"tuning={SMALL.model_dump_json(exclude={'left_out'})}",
    )
    pipeline.run(pipeline.Command("study_tuning", out=tmp_path, overrides=overrides))
    run = open_run("study_tuning", overrides, tmp_path)
    drawn = {path.stem for path in run.workspace.figures.glob("*.png")}
    measures = ("robust_accuracy", "accuracy", "placebo_breakage", "followed")
    assert drawn == {"contrasts", *(f"tuning_{measure}" for measure in measures)}
    found = outcomes.tuned(run, "S")
    assert set(found["arm"]) == {"none", "curated", "random"} and len(found) == 5 * len(outcomes.MEASURES)
    assert found["value"].between(0, 100).all() and (found.loc[found["measure"] == "accuracy", "n"] == 9).all()
    asked, taught = set(run.read("examples")["example_id"]), material.gather(run, "S")
    assert not asked & {one.lesson.example_id for one in taught.styled}, "no question is both taught and tried"
    with pytest.raises(DataError, match=r"S is right in \d+ of 48 answers .* name smaller sizes"):
        bigger = SMALL.model_copy(update={"sizes": [4096]})
        material.gather(type(run)(run.profile.model_copy(update={"tuning": bigger}), run.workspace), "S")


def test_weights_are_loaded_once_for_all_that_a_study_asks_of_a_model():
    first, again = arms._opened(S), arms._opened(S.model_copy())
    assert first is again
    other = arms._opened(S.model_copy(update={"model": "data/embedded/models/M"}))
    assert other is not first and other.identity != first.identity
