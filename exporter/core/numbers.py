"""Number text and exact decimals.

Two spellings of a double exist on the v1 surfaces and differ only for negative zero: digests
write it as ``0``, wire documents as ``-0``. Everything else is the shortest digits that read
back as the same double, laid out the way ECMAScript prints a number.

Money never travels through binary arithmetic: a rate held as a double enters the sum as the
decimal of its shortest text, and `EXACT` refuses any operation that would have to round.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from math import copysign, isfinite

__all__ = [
    "EXACT",
    "exact_sum",
    "is_money",
    "number_text",
    "shortest_decimal",
    "wire_number_text",
]

#: Dollars within which no sum or product of stored amounts leaves the range of a double.
_LEAST_MONEY = 1e-200
_MOST_MONEY = 1e200

#: Arithmetic that raises `decimal.Inexact` instead of rounding. Python's default context keeps
#: 28 digits, which a 17-digit rate times a large token count already exceeds. The widest sum of
#: doubles needs about 650 digits, and unused precision costs nothing.
EXACT = Context(prec=2_000, traps=[Inexact, InvalidOperation, Overflow])

#: Decimal exponents of the leading digit that are written without an exponent: 1e-6 to below 1e21.
_PLAIN_EXPONENTS = range(-6, 21)


def is_money(amount: float) -> bool:
    """Whether an amount or a rate can be counted with; NaN, infinities and absurd ones cannot."""
    return amount == 0 or _LEAST_MONEY <= abs(amount) <= _MOST_MONEY


def number_text(x: float) -> str:
    """Return the digest spelling of a double; both zeros are ``0``.

    Raises `ValueError` for NaN and the infinities.
    """
    if x == 0:
        return "0"
    text = repr(_finite(x))
    if "e" in text:
        return _respell_exponent(text)
    return text.removesuffix(".0")


def wire_number_text(x: float) -> str:
    """Return the wire spelling of a double, which keeps the sign of zero (``-0``).

    Raises `ValueError` for NaN and the infinities.
    """
    if x == 0:
        return "-0" if copysign(1.0, x) < 0 else "0"
    return number_text(x)


def shortest_decimal(x: float) -> Decimal:
    """Return the decimal number that the shortest text of a double spells, e.g. exactly 0.3.

    Raises `ValueError` for NaN and the infinities.
    """
    return Decimal(repr(_finite(x)))


def exact_sum(values: Iterable[Decimal]) -> Decimal:
    """Add decimals without rounding; the sum of nothing is 0."""
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


def _finite(x: float) -> float:
    # An int satisfies the annotation, but its repr has digits that no double has.
    x = float(x)
    if not isfinite(x):
        raise ValueError(f"{x} has no JSON form; a number must be finite")
    return x


def _respell_exponent(text: str) -> str:
    """Turn Python's ``d.ddde±xx`` into plain digits, or drop the padding of its exponent."""
    mantissa, _, exponent_text = text.partition("e")
    exponent = int(exponent_text)
    if exponent not in _PLAIN_EXPONENTS:
        return f"{mantissa}e{exponent:+d}"
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "")
    if exponent < 0:
        return f"{sign}0.{digits.rjust(len(digits) - exponent - 1, '0')}"
    # Python starts using exponents at 1e16, where 17 digits leave no fraction.
    return sign + digits.ljust(exponent + 1, "0")
