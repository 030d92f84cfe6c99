"""Asking models: the methods of the paper over every question and setting; the table `responses`.

`methods` turns questions and preferences into chats, and replies into responses; `shown` draws what each setting
shows; `requests` says which rows a study has, and which request carries each; `run` asks them through an engine and the
journal; `plan` counts them without asking; `shards` runs a part of the questions by itself.
"""
