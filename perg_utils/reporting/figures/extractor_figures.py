"""The figures of the extractor: how its fine-tuned layer learned, what each layer reads, and where extractors fail."""

from __future__ import annotations

from textwrap import fill

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from perg_utils.core.run import Run
from perg_utils.reporting.figures.drawing import PALETTE, STYLE, WIDTH, canvas, interval_arms
from perg_utils.reporting.figures.figure import Drawn, figure


@figure("extractor")
def extractor(run: Run, curve: pd.DataFrame, kinds: pd.DataFrame, best: int) -> Drawn:
    """Return two panels: loss during training, and where the layer is sure and right, by kind of template.

    `curve` has samples, loss, check_loss; `kinds` is from `evaluation.by_kind`; `best`: samples at the kept adapter.

    >>> import pandas as pd
    >>> curve = pd.DataFrame({"samples": [64, 128], "loss": [2.0, 1.0], "check_loss": [2.1, 1.4]})
    >>> kinds = pd.DataFrame(
    ...     {"kind": ["by letter"], "speaks": [30.0], "right_where_sure": [90.0], "low": [80.0], "high": [95.0]}
    ... )
    >>> perg.figures.extractor(run, curve, kinds, best=128).name
    'extractor'
    """
    height = 2.42 + 0.15 * len(kinds)
    with rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, height))
        axes = [fig.add_axes((0.14, 1 - 1.35 / height, 0.83, 1.15 / height))]
        axes.append(fig.add_axes((0.3, 0.49 / height, 0.62, (height - 2.57) / height)))
        for name, label, colour in (
            ("loss", "wordings learned from", PALETTE[0]),
            ("check_loss", "new wordings", PALETTE[1]),
        ):
            axes[0].plot(curve["samples"] / 1000, curve[name], color=colour, label=label, lw=1)
        axes[0].axvline(best / 1000, color="#777777", lw=0.6, ls=":")
        axes[0].set(xlabel="responses seen, thousands", ylabel="loss", ylim=(0, None), xlim=(0, None))
        axes[0].legend(frameon=False, loc="upper center")
        places = range(len(kinds))
        axes[1].barh(places, kinds["speaks"], color="#DDDDDD", height=0.7, label="speaks")
        sure = kinds["right_where_sure"].notna()
        arms = kinds.rename(columns={"right_where_sure": "value"})[sure]
        axes[1].errorbar(
            arms["value"], [p for p in places if sure.iloc[p]], xerr=interval_arms(arms), fmt="o", ms=3, elinewidth=0.8,
            color=PALETTE[0], label="right where it speaks", clip_on=False,
        )  # fmt: skip
        axes[1].set_yticks(list(places), kinds["kind"])
        axes[1].set(xlim=(0, 100), xlabel="percent, wordings kept for the test")
        axes[1].invert_yaxis()
        axes[1].tick_params(axis="y", length=0)
        axes[1].legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.36, 0.995))
    return fig, kinds


@figure("extraction")
def extraction(run: Run, compared: pd.DataFrame) -> Drawn:
    """Return stacked bars of right, wrong and no letter, by form of the responses and layers (`rewording.compare`).

    >>> import pandas as pd
    >>> told = pd.DataFrame(
    ...     {"form": ["as it is"], "layers": ["rules"], "right": [90.0], "wrong": [1.0], "silent": [9.0], "n": [10]}
    ... )
    >>> perg.figures.extraction(run, told).name
    'extraction'
    """
    rows = list(compared.itertuples(index=False))
    forms = list(dict.fromkeys(compared["form"]))
    heights = [number + 0.9 * forms.index(row.form) for number, row in enumerate(rows)]
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.95 + 0.17 * (len(rows) + len(forms)), left=0.3)
        start = pd.Series(0.0, index=compared.index)
        for share, colour in (("right", PALETTE[0]), ("wrong", PALETTE[1]), ("silent", "#E5E5E5")):
            label = {"silent": "no letter"}.get(share, f"{share} letter")
            axes.barh(heights, compared[share], left=start, color=colour, height=0.75, label=label)
            start = start + compared[share]
        axes.set_yticks(heights, compared["layers"])
        for form in forms:
            first = next(height for height, row in zip(heights, rows, strict=True) if row.form == form)
            axes.text(
                1, first - 0.85, f"{form} (n = {rows[heights.index(first)].n:,})", weight="bold", size=6.5, va="center"
            )
        axes.set(xlim=(0, 100), ylim=(heights[-1] + 0.6, -1.3), xlabel="percent of the responses")
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.36, 0.995), columnspacing=1.2)
    return fig, compared


@figure("difficulty", corner=False)
def difficulty(run: Run, shares: pd.DataFrame) -> Drawn:
    """Return the share read rightly, by kind of difficulty, with intervals (`checks.accuracy.by_difficulty`).

    `shares` has difficulty, n, and for the extractors original and rules the share in percent and its bounds.

    >>> import pandas as pd
    >>> one = {"difficulty": ["broken off"], "n": [8]}
    >>> one |= {"original": [50.0], "original_low": [20.0], "original_high": [80.0]}
    >>> one |= {"rules": [75.0], "rules_low": [40.0], "rules_high": [95.0]}
    >>> perg.figures.difficulty(run, pd.DataFrame(one)).data["rules"].tolist()
    [75.0]
    """
    if "difficulty" not in shares:
        return Figure(), pd.DataFrame()
    with rc_context(STYLE):
        labels = [fill(f"{kind} ({n})", 25) for kind, n in zip(shares["difficulty"], shares["n"], strict=True)]
        fig, (axes,) = canvas(0.85 + 0.27 * len(shares), left=0.39)
        for shift, name, colour in ((-0.15, "original", PALETTE[1]), (0.15, "rules", PALETTE[0])):
            own = shares.rename(columns={name: "value", f"{name}_low": "low", f"{name}_high": "high"})
            places = [place + shift for place in range(len(own))]
            axes.errorbar(
                own["value"], places, xerr=interval_arms(own), fmt="o", ms=3.5, elinewidth=0.8, color=colour,
                label=name, clip_on=False,
            )  # fmt: skip
        axes.set_yticks(range(len(shares)), labels)
        axes.set(xlim=(0, 100), xlabel="read rightly, percent of those labelled")
        axes.invert_yaxis()
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.36, 1.0))
    return fig, shares
