"""The fine-tuned reader of answers: its labelled training responses, its training, and its reading."""
