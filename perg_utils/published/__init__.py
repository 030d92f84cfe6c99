"""The paper's released files as the tables of a run, and what they and its printed figures are worth (`checks`).

In reading order: `files` (which there are, and whose), `layouts` (what is inside one), `assignment` and `catalogue`
(the dataset's order, and where a row belongs in it), `responses` (of one file), `arms` (of several files, as tables),
`release` (a folder of them), `importing` (all of it into a workspace), `printed` (the paper's own figures).
"""
