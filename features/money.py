"""Money: the log keeps amounts in minor units of the shop's currency (columns named `*_cents`); people and tools read units of it."""

from __future__ import annotations

from functools import cache

# Digits after the point where they are not two (ISO 4217).
NONE, THREE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", "BHD IQD JOD KWD LYD OMR TND"
DIGITS = dict.fromkeys(NONE.split(), 0) | dict.fromkeys(THREE.split(), 3)


def minor_digits(currency: str) -> int:
    """Digits after the point: 2 of euros, 0 of yen, 3 of Kuwaiti dinars."""
    return DIGITS.get(currency, 2)


@cache
def minor_units(currency: str) -> int:
    """How many minor units make one of a currency: 100 cents a euro, 1 a yen, 1,000 fils a Kuwaiti dinar."""
    return int(10 ** minor_digits(currency))
