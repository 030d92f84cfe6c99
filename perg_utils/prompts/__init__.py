"""What a model is sent: the prompt sets of `data/prompts/`, and the form in which second stages reply.

`sets` loads, checks and renders a set, and hashes its parts; `contents` says what its file holds; `second_stage` reads
the reply of self_critic and Pref-Aligner.
"""
