"""The starter pack: prompts and recorded teacher replies written for this project (see docs/data.md)."""
