"""SaRO: safety-oriented reasoning optimization for open chat models."""

__version__ = "0.1.0"
