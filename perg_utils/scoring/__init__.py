"""From answers and judgements to numbers: scores, robust accuracy, the paper's metrics, and comparisons with intervals.

In reading order: `scores` (a row a response, beside its baseline), `plain` (plain answers against chance), `rates`
(robust accuracy and the paper's formulas), `intervals` (intervals and tests from counts alone), `generalise` (intervals
for preferences like these), `changes` (what a preference changes in an arm), `pairs` (which arms are compared),
`comparisons` (arms against each other), `ranks` (of arms of several runs, as ranges), `ablation` (what each way of
editing is worth), `crossfit` (the paper's metrics where no arm starts from the answer that chooses Q*),
`discrimination` (a judge against responses that never knew the preference), `corrected` (its rates, corrected by
people's ratings), `churn` (what any change of the prompt breaks, where a question has several preferences),
`categories` (breakage by category, standardised by source), `coverage` (how often the intervals hold the truth),
`worlds` (simulated studies: what is true in them), `simulated` (their tables).
Knows of `core` only.
"""
