"""Which option each response chose: the study's responses (table 'responses') become letters (table 'answers').

The paper reads letters with a fine-tuned model and asks another model where that fails (section 3.3). Here three
layers are asked in turn, each only what those before it leave undecided; any but the first can be left out:

    reading.py    what a layer says of a response, and what a layer is
    rules/        the first layer: rules that are precise or silent
    answers.py    one layer after the other: `extract_answer` for one response, `extract` for a table
    finetuned/    the second: a model with a LoRA adapter that scores the options
    llm.py        the third: a language model that is asked for one letter
    layers.py     which layers a profile has; what each of them decided

`reading`, `rules` and `answers` need no engine: other rooms read letters without them.
"""
