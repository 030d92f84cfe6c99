"""Preferences that a model proposes and people choose: how the paper's bank was made (section 3.1).

`asking` asks a model for one preference for each of a sample of questions; `similar` finds those that say nearly the
same; `choosing` writes the sheet on which people judge them, reads sheets back and makes a bank of what they chose.
"""
