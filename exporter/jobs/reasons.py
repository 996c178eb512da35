"""The reasons that there are: why something is in quarantine, or an archive is not served.

What each of them means is told in docs/reference/reason-codes.md; a test compares the two.
"""

from __future__ import annotations

import re
from typing import Final

from exporter.core.runzip import Reason
from exporter.jobs import remote_scrub

#: Written with the number of the method, never alone.
_WITH_METHOD: Final = re.compile(r"(?:LOG|MEMBER)_METHOD_[0-9]{1,5}")
_FAMILIES: Final = {Reason.LOG_METHOD, Reason.MEMBER_METHOD}
_OF_JOBS: Final = {"INTERNAL", "RESTORED", *remote_scrub.REASONS.values()}
#: Told by ``exporter artifacts verify``, which puts nothing into quarantine.
_OF_VERIFY: Final = {"HASH_DIFFERS", "LOG_LENGTH_DIFFERS", "LOG_UNAVAILABLE", "LOG_DIFFERS"}
_PLAIN: Final = frozenset(map(str, set(Reason) - _FAMILIES)) | _OF_JOBS | _OF_VERIFY


def is_known(reason: str) -> bool:
    """Whether the program gives this reason, in this very spelling."""
    return reason in _PLAIN or _WITH_METHOD.fullmatch(reason) is not None
