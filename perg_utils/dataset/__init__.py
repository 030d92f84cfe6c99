"""What is asked about: the study's questions, and the preferences that they are asked with.

`questions` loads, checks and samples the questions of a profile; `sources` reads each of the three sources, from the
hub, from files, or from `invented_world`, which stands in for them; `preferences` is the bank, which preference each
question gets, and what each setting of the paper shows; `orders` puts options in another order, and letters back. Knows
`core` only.
"""
