"""PERG's results and data in the formats of others, each an extra that the core does without.

`export` (the command), `export_hub` (a dataset folder for the hub: card and Parquet), `export_eee` (Every Eval Ever,
instance level), `croissant` (metadata of the committed data and of a run's tables). Texts of others leave with an
export only where the user asks for it.
"""
