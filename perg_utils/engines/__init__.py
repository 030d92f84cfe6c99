"""Engines: where replies come from. A batch of chat requests goes in, replies come out as they finish."""
