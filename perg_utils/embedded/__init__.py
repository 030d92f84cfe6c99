"""The embedded models: real inference for everyone, about the invented world (`dataset.invented_world`).

`styles` are the manners they are taught; `corpus` is the stream of chats they learn from; `tokenizer` and `network`
are what they are made of; `training` makes the folders in `data/embedded/models`; `practice` asks what training did for
each fact, once a run has been scored.
"""
