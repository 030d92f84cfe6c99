"""What robustness costs: tokens, latency, and at which price of a failure an arm is worth it.

The stream is what a service would see: every question once with a relevant preference and once among irrelevant ones
only. An option is a model with an arm: zero_shot, Pref-Aligner, Pref-Aligner behind a gate, a vote of three zero_shot
replies. Costs are machine-free: tokens read and written, times the model's parameters, times two (operations), in
units of 10^9 (GFLOP); where the parameters are not known, tokens. Not in the paper.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.profile import ModelConfig, Profile, StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import Setting
from perg_utils.studies import arms, gate
from perg_utils.studies.contrasts import Paired, of_sums

#: The settings of the stream.
STREAM = (Setting.RELEVANT, Setting.IRRELEVANT)
#: The options of each model.
ZERO, ALIGNED, GATED, VOTE = "zero_shot", "pref_aligner", "gated", "vote"
#: The samples beside the greedy reply of a vote, and their temperature.
DRAWS, TEMPERATURE = (1, 2), 0.7


def parameters(model: ModelConfig) -> float | None:
    """Return a model's parameters in billions: of its weights where they lie here, else by its name; None: unknown."""
    place = model.place()
    if place is None or place.is_file():
        return model.billions()
    from safetensors import safe_open  # noqa: PLC0415 - only here

    total = 0
    for path in place.glob("*.safetensors"):
        with safe_open(str(path), "np") as held:
            total += sum(int(np.prod(held.get_slice(name).get_shape())) for name in held.keys())  # noqa: SIM118
    return total / 1e9 or model.billions()


def options(run: Run, model: str) -> pd.DataFrame:
    """Return a row a question, setting of the stream and option of a model: robust, tokens read and written, and cost.

    Asks for the samples of the vote through the journal. `robust` is null where it is not scored.
    """
    scores, responses = run.read("scores"), run.read("responses")
    keys = ["example_id", "setting"]
    own = responses[responses["model"] == model]
    spent = own[["example_id", "setting", "method", "prompt_tokens", "completion_tokens"]]
    held = scores[(scores["model"] == model) & scores["setting"].isin(STREAM)]
    parts = []
    for method in (ZERO, ALIGNED):
        rows = held[held["method"] == method][[*keys, "robust"]]
        tokens = spent[spent["method"] == method].drop(columns="method")
        parts.append(rows.merge(tokens, on=keys, validate="1:1").assign(option=method))
    parts += [_gated(run, model, parts[1], own), _vote(run, model, parts[0], own)]
    out = pd.concat(parts, ignore_index=True).rename(columns={"prompt_tokens": "read", "completion_tokens": "written"})
    billions = parameters(run.profile.model(model))
    out["cost"] = (out["read"] + out["written"]).astype(float) * (2 * billions if billions is not None else 1)
    return out.assign(model=model)[["model", "option", *keys, "robust", "read", "written", "cost"]]


def _gated(run: Run, model: str, aligned: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Pref-Aligner where the gate finds something relevant among what is shown, else the plain answer as it is."""
    passed = gate.relevant(run.read("preferences"), run.profile.embedder)
    passes = set(passed.loc[passed["gate"], "preference_id"])
    shown = own[(own["method"] == ALIGNED) & own["setting"].isin(STREAM)]
    opened = {
        (row["example_id"], row["setting"]): bool(passes & set(row["shown_preferences"]))
        for row in shown.to_dict("records")
    }
    plain = own[own["setting"] == Setting.NONE].set_index("example_id")
    kept = shown[[not opened[key] for key in zip(shown["example_id"], shown["setting"], strict=True)]].copy()
    for name in ("response", "status", "prompt_tokens", "completion_tokens"):
        kept[name] = plain.loc[kept["example_id"], name].to_numpy()
    closed = kept[["example_id", "setting", "prompt_tokens", "completion_tokens"]].assign(robust=None)
    if len(kept):
        rated = arms.scored(run, kept)[["example_id", "setting", "robust"]]
        closed = closed.drop(columns="robust").merge(rated, on=["example_id", "setting"], validate="1:1")
    keys = zip(aligned["example_id"], aligned["setting"], strict=True)
    open_rows = aligned[[opened.get(key, True) for key in keys]]
    return pd.concat([open_rows, closed], ignore_index=True).assign(option=GATED)


def _vote(run: Run, model: str, greedy: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The greedy reply and two samples: the first whose letter most of them name; the greedy one if all differ."""
    parts = []
    for setting in STREAM:
        first = own[(own["method"] == ZERO) & (own["setting"] == setting)].assign(draw=0)
        samples = [arms.drawn(run, model, setting, draw, TEMPERATURE).assign(draw=draw) for draw in DRAWS]
        every = pd.concat([first, *samples], ignore_index=True)
        every["letter"] = arms.letters(run, every)
        spent = every.groupby("example_id")[["prompt_tokens", "completion_tokens"]].sum()
        chosen = every.loc[[_majority(rows) for _, rows in every.groupby("example_id", sort=False)]]
        rated = arms.scored(run, chosen)[["example_id", "setting", "robust"]]
        parts.append(rated.join(spent, on="example_id"))
    return pd.concat(parts, ignore_index=True).assign(option=VOTE)


def _majority(rows: pd.DataFrame) -> Any:
    """The index of the first reply with the letter that most name; a letter goes before none."""
    counts = rows["letter"].value_counts()
    if counts.empty:
        return rows.index[0]
    most = counts[counts == counts.max()].index
    return rows.index[rows["letter"].isin(most)][0]


def per_question(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a question and (model, option) column pairs: how often robust in the stream (0 to 2), and mean cost.

    Only questions that are scored in both settings for every option; columns `robust` and `cost` as a MultiIndex.
    """
    scored = table[table["robust"].notna()]
    wide = scored.assign(robust=scored["robust"].astype(int)).pivot_table(
        index="example_id", columns=["model", "option"], values=["robust", "cost"], aggfunc=["sum", "count"], sort=False
    )
    full = (wide["count"]["robust"] == len(STREAM)).all(axis=1)
    sums = wide["sum"][full]
    return pd.concat({"robust": sums["robust"], "cost": sums["cost"] / len(STREAM)}, axis=1)


def frontier(questions: pd.DataFrame, config: StatisticsConfig, seed: int) -> pd.DataFrame:
    """Return a row an option: cost a request, robust accuracy over the stream with its interval, and whether it is on
    the Pareto front (no other option is as cheap and better)."""
    robust = questions["robust"] / len(STREAM)
    draws = _draws(len(robust), config, seed)
    means = draws @ robust.to_numpy(dtype=float)
    tail = 100 * (1 - config.confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    out = pd.DataFrame({"value": 100 * robust.mean(), "low": 100 * low, "high": 100 * high, "n": len(robust)})
    out["cost"] = questions["cost"].mean()
    out = out.rename_axis(["model", "option"]).reset_index()
    out["front"] = [
        not (
            (out["cost"] <= row.cost)
            & (out["value"] >= row.value)
            & ~((out["cost"] == row.cost) & (out["value"] == row.value))
        ).any()
        for row in out.itertuples()
    ]
    return out


def worth(
    questions: pd.DataFrame,
    pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]],
    config: StatisticsConfig,
    seed: int,
) -> pd.DataFrame:
    """Return a row a (reference, option) pair: what a robust answer more costs, with its interval.

    `gain` is in robust answers a hundred requests, `extra` in cost a hundred requests; `value` their quotient, cost a
    robust answer gained, with bootstrapped bounds: the price of a failure from which on the option is worth it. NaN
    where the gain's interval crosses zero, and where one of the two is both better and cheaper; `verdict` says which.
    """
    draws = _draws(len(questions), config, seed)
    tail = 100 * (1 - config.confidence) / 2
    rows = []
    for reference, option in pairs:
        gain = ((questions["robust"][option] - questions["robust"][reference]) / len(STREAM)).to_numpy(dtype=float)
        extra = (questions["cost"][option] - questions["cost"][reference]).to_numpy(dtype=float)
        gains, extras = draws @ gain, draws @ extra
        low, high = np.percentile(gains, [tail, 100 - tail])
        row = {"model": option[0], "option": option[1], "against": " ".join(reference)}
        row |= {"gain": 100 * gain.mean(), "gain_low": 100 * low, "gain_high": 100 * high, "extra": 100 * extra.mean()}
        defined = low > 0 or high < 0
        ratios = np.divide(extras, gains, out=np.full_like(extras, np.nan), where=gains != 0)
        bounds = np.nanpercentile(ratios, [tail, 100 - tail]) if defined else (np.nan, np.nan)
        ratio = extra.mean() / gain.mean() if defined else np.nan
        row["verdict"] = _verdict(ratio, gain.mean(), extra.mean())
        if not ratio > 0:  # one of two is better and cheaper: there is nothing to weigh
            ratio, bounds = np.nan, (np.nan, np.nan)
        rows.append(row | {"value": ratio, "low": bounds[0], "high": bounds[1], "n": len(gain)})
    return pd.DataFrame(rows)


def _verdict(ratio: float, gain: float, extra: float) -> str:
    if pd.isna(ratio):
        return "gain unclear"
    if gain > 0:
        return "better and cheaper" if extra <= 0 else "worth it above this price"
    return "worse and dearer" if extra >= 0 else "cheaper, and worth it below this price"


def acceptability(
    questions: pd.DataFrame, prices: Sequence[float], config: StatisticsConfig, seed: int
) -> pd.DataFrame:
    """Return the probability that each option has the highest net benefit, a row a price of a failure and option.

    Net benefit is price times robust answers less cost; probabilities are shares of bootstrap resamples, in percent.
    """
    draws = _draws(len(questions), config, seed)
    robust = draws @ (questions["robust"] / len(STREAM)).to_numpy(dtype=float)
    cost = draws @ questions["cost"].to_numpy(dtype=float)
    names = list(questions["robust"].columns)
    rows = []
    for price in prices:
        best = np.argmax(price * robust - cost, axis=1)
        for number, (model, option) in enumerate(names):
            rows.append(
                {"price": price, "model": model, "option": option, "value": 100 * float((best == number).mean())}
            )
    return pd.DataFrame(rows)


def _draws(n: int, config: StatisticsConfig, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=config.resamples) / n


def planned(profile: Profile) -> list[tuple[str, str, tuple[str, str], tuple[str, str]]]:
    """Return the contrasts, fixed beforehand: (question, who, reference, option), each a (model, option).

    For each model Pref-Aligner and the vote against zero_shot, and the gate against Pref-Aligner; and the next larger
    model's zero_shot against Pref-Aligner.
    """
    known = {m.name: parameters(m) for m in profile.models}
    order = sorted(known, key=lambda name: known[name] or 0)
    out = [("Pref-Aligner against zero_shot", name, (name, ZERO), (name, ALIGNED)) for name in order]
    out += [("a vote of three against zero_shot", name, (name, ZERO), (name, VOTE)) for name in order]
    out += [("a gate before Pref-Aligner", name, (name, ALIGNED), (name, GATED)) for name in order]
    steps = itertools.pairwise(order)
    out += [("the next larger model, zero_shot", f"{b} for {a}", (a, ALIGNED), (b, ZERO)) for a, b in steps]
    return out


def contrasts(questions: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Return the planned contrasts of robust accuracy over the stream, a question being one unit; Holm over all."""
    robust = questions["robust"]
    made = [
        Paired(question, who, " ".join(reference), " ".join(option), robust[reference], robust[option], len(STREAM))
        for question, who, reference, option in planned(profile)
    ]
    return of_sums(made, profile.statistics)
