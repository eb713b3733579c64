"""Training: supervised fine-tuning through TRL, and our own preference trainer on ``transformers.Trainer``."""
