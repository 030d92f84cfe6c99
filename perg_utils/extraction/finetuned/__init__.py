"""The second layer: a model with a LoRA adapter that scores the options of what the rules leave open (section 3.3).

    templates.py   what the made-up responses say (`data/extraction_templates.yaml`)
    corpus.py      labelled responses made from the templates and the study's option lists
    scoring.py     one forward pass that scores the labels
    training.py    the adapter's training and its `training.json`
    layer.py       the layer: silent where it is not sure
    evaluation.py  how well it reads made-up responses that it has not seen
    rewording.py   how the layers read a run's own responses when these are told in other ways

`scoring` and `training` import torch; the others do so only when the layer is first used.
"""
