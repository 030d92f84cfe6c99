"""Was the preference followed? Ratings from 1 to 5 (paper, section 3.3), and how far they can be trusted.

`rating` makes the table `judgements` with a judge of the profile. `rubric` is what a judge is shown and how its reply
is read; `judges` are two sets of rules and the language model; `human` is the ratings of human raters, which
`annotation` collects on a blind sheet and `correction` corrects the judge's rates by. `nulls` has responses rated that
did not know the preference. `panel` keeps several judges side by side. `agreement` (kappa, alpha), `probes` (known
biases) and `sensitivity` (other judges, other thresholds) measure how much the ratings depend on the judge.
"""
