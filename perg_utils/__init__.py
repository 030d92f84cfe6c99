"""PERG: does a language model stay right when it is asked to please a user? (arXiv 2509.19358)"""

__version__ = "0.1.0"
