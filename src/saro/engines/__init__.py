"""Text out: the local engine (transformers in process) and recorded replies."""
