"""What the paper leaves open, each question a study with a notebook and a profile of its own (docs/studies.md).

`stages` (which stage of Pref-Aligner fails); `cost` (what robustness costs), with `gate` (is a preference about answers
at all) and `seconds` (latency, throughput); `delivery` (why answers name no option), with `letters` (their likelihoods)
and `named_none` (in the paper's released responses); `distance` (how far a preference moves a response) and `validity`
(what hangs on the judge); `free_form` (the same questions without options); `tuning`, a room of its own (which data
teach a model to please and stay right). What they rest on: `contrasts` (comparisons fixed beforehand, and shares by
bootstrap), `arms` (asked for beside the run's own).
"""
