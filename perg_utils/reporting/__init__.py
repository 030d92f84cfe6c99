"""What a run's tables say, for readers: tables, figures, sentences and one page.

Rendering only: what is computed here, a difference with its interval, comes from the room `scoring`. No engine is
imported. In reading order: `tables` and `figures` (each function takes a `Run` and returns what shows and saves
itself), `sentences` (what was asked and what was found), `limits` (what they do not show), `page` (all of it in
`report.html`), `browser` (the responses themselves, packed for the page), `compare` (several runs side by side on a
page of its own). `templates` holds the page's HTML, style and scripts; `vendor` the table widget of others that it
uses.
"""
