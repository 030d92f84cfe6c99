"""How the extractor reads: agreement and coverage of the rules on the released responses, and speed of each layer.

`python tests/bench/extraction.py [FOLDER]` wants the released files (default: ../shared/real/published_sample) and
takes a minute or two. Each layer stands beside a baseline in the same run: a crude extractor, one case at a time.
Agreement is with the original extractor's valid letters, which are no truth; the last tables are about labels that
a language model gave. The half of the questions that the rules were not developed on is shown apart.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from perg_utils.core.loading import load_profile
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import invented_world as world
from perg_utils.extraction.answers import extract_answer
from perg_utils.extraction.finetuned.corpus import Corpus
from perg_utils.extraction.finetuned.layer import FineTunedLayer
from perg_utils.published.checks.accuracy import by_difficulty, estimates, kappa
from perg_utils.published.checks.gold import held_out, load_gold, released, with_responses

SAMPLE = Path(__file__).parents[3] / "shared/real/published_sample"
_STATED = re.compile(r"(?:answer|option|choice)(?: is|:)?\s*\W{0,3}([A-Z])\b")
_BEGINS = re.compile(r"\W{0,3}([A-Z])[.):]")


def crude(response: str, options: Sequence[str]) -> str | None:
    """The baseline: a letter at the start, else the last one after answer, option or choice, else a unique text."""
    found = [m[1] for m in (_BEGINS.match(response.strip()),) if m] or _STATED.findall(response)[-1:]
    texts = [chr(65 + i) for i, option in enumerate(options) if option.strip(" .").lower() in response.lower()]
    letter = found[0] if found else texts[0] if len(texts) == 1 else None
    return letter if letter is not None and ord(letter) - 65 < len(options) else None


def rules(response: str, options: Sequence[str]) -> str | None:
    """The rules' letter."""
    return extract_answer(response, options).letter


def agreement(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Coverage and agreement, in percent, over the responses with a valid original letter."""
    valid = rows[rows["original"].notna()]
    columns: dict[str, pd.Series] = {"n": valid["original"].notna()}
    for name in ("crude", "rules"):
        spoke = valid[name].notna()
        columns[f"{name} speaks"] = 100.0 * spoke
        columns[f"{name} agrees"] = (100.0 * (valid[name] == valid["original"])).where(spoke)
    table = pd.DataFrame(columns).groupby([valid[name] for name in by])
    return table.mean().assign(n=table["n"].sum()).round(2)


def speeds(rows: pd.DataFrame, rounds: int = 5) -> dict[str, float]:
    """Responses a CPU second of either extractor, the median of alternating rounds over the same 4,000 responses."""
    some = rows.sample(min(4000, len(rows)), random_state=0)
    pairs = list(zip(some["response"], some["options"], strict=True))
    found: dict[str, list[float]] = {"crude": [], "rules": []}
    for _ in range(rounds):
        for name, read in (("crude", crude), ("rules", rules)):
            start = time.process_time()
            for response, options in pairs:
                read(response, options)
            found[name].append(len(pairs) / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def finetuned() -> None:
    """How fast the fine-tuned layer of the demo's run reads, in batches and one case at a time, alternating."""
    profile = load_profile("demo")
    adapter = Workspace.of(".", profile.name).extractor
    if not (adapter / "training.json").is_file():
        print("no fine-tuned layer: ./run_all.sh --only 01,02 trains the demo's\n")
        return
    layer = FineTunedLayer(profile.extractor, adapter)
    samples = Corpus(world.questions()["options"].tolist(), 5).take("test", 640)
    cases = [(sample.response, sample.options) for sample in samples]
    layer.choices(cases[:1])  # loads the weights
    together, single = [], []
    for _ in range(3):
        start = time.process_time()
        batched = layer.choices(cases)
        together.append(len(cases) / (time.process_time() - start))
        start = time.process_time()
        alone = [layer.choices([case])[0] for case in cases[:160]]
        single.append(160 / (time.process_time() - start))
        assert [label for label, _ in batched[:160]] == [label for label, _ in alone]
    fast, slow = statistics.median(together), statistics.median(single)
    print(f"fine-tuned layer (embedded base L): {fast:,.0f} cases a CPU second in batches of 64, {slow:,.0f} one by "
          f"one ({fast / slow:.1f} times as many), the same labels\n")  # fmt: skip


def main(folder: Path) -> None:
    """Print every table."""
    rows = released(folder)
    read = [extract_answer(r, o) for r, o in zip(rows["response"], rows["options"], strict=True)]
    rows["rules"], rows["how"] = [e.letter for e in read], [e.how for e in read]
    rows["crude"] = [crude(r, o) for r, o in zip(rows["response"], rows["options"], strict=True)]
    gold = load_gold()
    labelled = rows.merge(gold[["file", "row", "profile"]])["question"]
    rows["half"] = (rows["question"].map(held_out) | rows["question"].isin(labelled)).map(
        {True: "held out", False: "developed on"}
    )
    print(agreement(rows.assign(all="all"), ["all"]).to_string(), "\n")
    for by in (["half"], ["source"], ["model", "method"], ["how"]):
        print(agreement(rows, by).to_string(), "\n")
    invalid = rows[rows["original"].isna()]
    print(f"{len(invalid):,} have no valid original letter; the rules speak on {invalid['rules'].notna().mean():.1%}\n")
    print("responses a CPU second:", {name: round(value) for name, value in speeds(rows).items()}, "\n")

    finetuned()

    truth = with_responses(gold, rows)
    extractors = ["original", "crude", "rules"]
    print(f"{len(truth)} labelled; two passes agree on {(gold['label_a'] == gold['label_b']).mean():.1%}, "
          f"kappa {kappa(gold['label_a'], gold['label_b']):.3f}")  # fmt: skip
    print(estimates(truth, extractors).round(2).to_string(index=False), "\n")
    print(by_difficulty(truth, extractors).round(1).to_string(index=False), "\n")
    valid = truth[truth["original"].notna()]
    named = valid["truth"].notna()
    same = named & (valid["truth"] == valid["original"])
    weight = valid["weight"]
    print(f"of responses with a valid original letter {weight[named].sum() / weight.sum():.1%} name an option at all; "
          f"one without error would agree on {weight[same].sum() / weight[named].sum():.2%} of those")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
