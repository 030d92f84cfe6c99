"""What the paper leaves open, each question a study with a notebook and a profile of its own (docs/studies.md).

`stages` (which stage of Pref-Aligner fails), `contrasts` (comparisons fixed beforehand, and shares by bootstrap).
"""
