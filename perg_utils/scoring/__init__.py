"""From answers and judgements to numbers: scores, the paper's metrics, and comparisons with intervals.

In reading order: `scores` (a row a response, beside its baseline), `rates` (the paper's formulas), `intervals` (exact
intervals, bootstrap, tests, from counts alone), `comparisons` (arms against each other), `churn` (what any change of
the prompt breaks, where a question has several preferences), `coverage` (how often the intervals hold the truth),
`worlds` (simulated studies: what is true in them), `simulated` (their tables). Knows of `core` only.
"""
