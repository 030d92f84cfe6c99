"""Where evaluators look: this study in other evaluation frameworks, and its results and data in the formats of others.

`inspect_asking` (Inspect's models behind our methods), `inspect_task` (the task `perg`), `inspect_log` (its log as the
tables of a run); `lm_eval_tasks` (tasks for lm-evaluation-harness), `lm_eval_log` (its sample logs as our tables);
`export` (the command), `export_hub` (a dataset folder for the hub: card and Parquet), `export_eee` (Every Eval Ever,
instance level), `croissant` (metadata of the committed data and of a run's tables).

Nothing else imports this room but the command line. Inspect is an optional extra, imported only by the modules that are
named after it; the harness's modules do without the harness. Texts of others leave with an export only where the user
asks for it.
"""
