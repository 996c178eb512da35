"""Signed tickets: who holds one may have one file of one plan until it runs out.

A ticket is ``expiry.mac``: Unix seconds, and the HMAC-SHA256 of ``plan:file:expiry`` in hex.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final
from uuid import UUID

from exporter.errors import BadInput, ExporterError

#: What a ticket can be for. Nothing else of a plan is ever handed out this way.
FILES: Final = ("run.zip", "030-report.html")
LIFETIME_SECONDS: Final = 900
#: A shorter secret could be guessed.
LEAST_SECRET: Final = 32

_TICKET = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)


def issue(
    secret: str, plan: UUID, file: str, *, now: float, lifetime: int = LIFETIME_SECONDS
) -> str:
    """A ticket for one file of one plan, for `lifetime` seconds from `now` (Unix time)."""
    _check(secret, file)
    expiry = int(now) + lifetime
    return f"{expiry}.{_mac(secret, plan, file, expiry)}"


def check(secret: str, ticket: str, plan: UUID, file: str, *, now: float) -> None:
    """Raise ExporterError unless the ticket is for this file of this plan and still runs.

    A ticket for something else is not told apart from a forged one.
    """
    _check(secret, file)
    found = _TICKET.fullmatch(ticket)
    expiry = int(found[1]) if found else 0
    given = found[2] if found else ""
    # Compared even when the form is wrong, and in constant time, so that time tells nothing.
    is_signed = hmac.compare_digest(_mac(secret, plan, file, expiry), given)
    if found is None or found[1] != str(expiry) or not is_signed:
        raise ExporterError(
            f"the ticket is not for {file} of plan {plan}", hint="ask for a new one"
        )
    if now >= expiry:
        raise ExporterError("the ticket has run out", hint="ask for a new one")


def _mac(secret: str, plan: UUID, file: str, expiry: int) -> str:
    signed = f"{plan}:{file}:{expiry}".encode()
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _check(secret: str, file: str) -> None:
    if len(secret.encode()) < LEAST_SECRET:
        raise BadInput(
            "EXPORTER_DOWNLOAD_SECRET",
            f"it has less than {LEAST_SECRET} bytes" if secret else "it is not set",
            accepted="a secret of its own, such as 'openssl rand -hex 32' prints",
        )
    if file not in FILES:
        raise BadInput("FILE", f"there are no tickets for {file!r}", accepted=" or ".join(FILES))
