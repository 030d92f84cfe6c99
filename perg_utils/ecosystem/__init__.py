"""Where evaluators look: this study in other evaluation frameworks, and their logs as our tables.

`inspect_asking` (Inspect's models behind our methods), `inspect_task` (the task `perg`), `inspect_log` (its log as the
tables of a run), `lm_eval` (tasks for lm-evaluation-harness, and its sample logs). Nothing else imports this room;
the frameworks are optional extras and only the modules named after them import them.
"""
