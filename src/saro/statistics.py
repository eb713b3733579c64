"""Intervals for rates."""

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal


@dataclass(frozen=True)
class Rate:
    """A proportion with its 95 % Wilson score interval; all of them in [0, 1].

    Attributes:
        hits: successes.
        total: trials.
        value: ``hits / total``.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    hits: int
    total: int
    value: float
    low: float
    high: float


def wilson(hits: int, total: int, z: float = Z_95) -> Rate | None:
    """Wilson score interval for ``hits`` of ``total`` (E. B. Wilson, JASA 22:209–212, 1927); None for no trials.

    Raises:
        ValueError: unless 0 ≤ hits ≤ total.
    """
    if not 0 <= hits <= total:
        raise ValueError(f"expected 0 <= hits <= total, found {hits} of {total}")
    if total == 0:
        return None
    p = hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == total else min(1.0, centre + half)
    return Rate(hits, total, p, low, high)
