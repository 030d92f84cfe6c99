"""A run from its first step to its last: which notebooks, in which order, what is up to date, what became of it.

    steps.py       the steps of the study as a table: what each needs and makes, and when it applies
    state.py       what a run remembers, so that a second call does only what is missing
    pipeline.py    `run_all.sh`: the loop over the steps, and the plan
    notebook.py    one notebook, executed in this environment's kernel
    together.py    several at once
    spread.py      a run on a cluster
    executed.py    clean copies of executed notebooks, to be read without running them
    textless.py    a run's results without any text of others, to be kept
    verify.py      a run's tables against the committed ones
    unanswered.py  rows without an answer, told at the end of every run
    spending.py    what each step cost: time, tokens, energy
    provenance.py  what a run was made of: the manifest
    merge.py       shards joined into the run that they make up
    doctor.py      what this machine can run

Nothing below this room imports it.
"""
