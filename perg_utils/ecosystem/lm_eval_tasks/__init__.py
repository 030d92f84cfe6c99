"""Tasks for lm-evaluation-harness: `lm_eval --include_path perg_utils/ecosystem/lm_eval_tasks --tasks perg ...`.

`questions` makes the rows and reads the letters; a YAML file names a setting. Read docs/inspect.md on what one pass
cannot do.
"""
