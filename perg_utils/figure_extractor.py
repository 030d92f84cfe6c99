"""The figure of the fine-tuned reader: its learning curve, what it reads rightly by kind, and how honest it is."""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from .drawing import INVENTED, PALETTE, STYLE, WIDTH, footer, interval_arms


def extractor_figure(curve: pd.DataFrame, kinds: pd.DataFrame, best: int, invented: bool) -> Figure:
    """Return two panels: loss during training, and where the reader is sure and right, by kind of wording.

    `curve` has samples, loss, check_loss; `kinds` is from `checking.by_kind`; `best`: samples at the kept adapter.
    """
    height = 2.35 + 0.15 * len(kinds)
    with rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, height))
        axes = [fig.add_axes((0.14, 1 - 1.35 / height, 0.83, 1.15 / height))]
        axes.append(fig.add_axes((0.3, 0.42 / height, 0.62, (height - 2.5) / height)))
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
        if invented:
            footer(fig, INVENTED)
    return fig
