"""Checks of the release: do the printed figures reproduce, what is unsound, how right are the original letters.

In reading order: `reproduction` (each printed figure beside ours), `consistency` (the printed figures among
themselves), `audit` (the findings, and what mending them changes) with `counted`, `faults` and `joins`; `gold` (the
labels that a language model gave some of the responses), `weighting` (shares of all responses from labelled ones) and
`accuracy` (letters against these labels).
"""
