"""What every other room speaks in and writes with; it knows of none of them.

In reading order: `schema` (the vocabulary, its order, and the tables), `profile` (a study's settings) and `loading` (a
profile by name, with overrides), `workspace` (where tables and figures are), `run` (a study opened for reading),
`results` (runs and what was exported of them, opened as results), `ingredients` (what a run is made of, as hashes),
`sheets` (that people fill in), `progress`, `interrupts`, `errors`.
"""
