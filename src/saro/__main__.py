"""``python -m saro``."""

from saro.cli import main

main()
