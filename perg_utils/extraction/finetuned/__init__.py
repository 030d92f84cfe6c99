"""finetuned."""
