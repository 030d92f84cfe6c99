"""Robust tuning: which training data teach a model to follow a preference without giving up the right answer?

`material` (what a model writes itself, and what each arm keeps of it), `training` (a LoRA adapter on it), `outcomes`
(adapters tried on questions and preferences that none was trained on; contrasts with the seed as unit). Not in the
paper, which leaves training as an open question.
"""
