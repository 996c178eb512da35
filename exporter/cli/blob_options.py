"""``--blob-url`` and ``--inline-max-bytes``: which object store a command uses, and for what.

What the options say is kept in the command's context, so that a command which takes them needs
no parameters for it and asks `objects` or `placement` when it comes to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exporter.cli.options import Decorated, Whole
from exporter.errors import BadInput
from exporter.settings import Settings

if TYPE_CHECKING:
    from exporter.artifacts.logs import Placement
    from exporter.artifacts.objects import Objects

_URL, _INLINE_MAX = f"{__name__}.url", f"{__name__}.inline_max"


def blob_option(function: Decorated) -> Decorated:
    """``--blob-url``; the command asks `objects(settings)` for the store."""
    return click.option(
        "--blob-url",
        metavar="URL",
        expose_value=False,
        callback=_remember_url,
        help="Object store of large logs and originals: a folder or s3://BUCKET/PREFIX."
        " (env: EXPORTER_BLOB_URL)",
    )(function)


def inline_option(function: Decorated) -> Decorated:
    """``--inline-max-bytes``; the command asks `placement(settings)` for what it says."""
    return click.option(
        "--inline-max-bytes",
        type=Whole(0, 2**31 - 1),
        metavar="N",
        expose_value=False,
        callback=_remember_inline_max,
        help="Larger logs are never text in their row; with an object store they and larger"
        " originals go there. (env: EXPORTER_INLINE_MAX_BYTES)",
    )(function)


def objects(settings: Settings) -> Objects | None:
    """The object store, None when there is none. Raises BadInput for what can be no address."""
    from exporter.artifacts.objects import Objects

    url = click.get_current_context().meta.get(_URL) or settings.blob_url
    return Objects(url) if url else None


def needed_objects(settings: Settings) -> Objects:
    """The object store of a command that is useless without one. Raises BadInput."""
    found = objects(settings)
    if found is None:
        from exporter.artifacts.objects import ACCEPTED

        raise BadInput("--blob-url", "no object store is named", accepted=ACCEPTED)
    return found


def inline_max_bytes(settings: Settings) -> int:
    """The size above which bytes leave the database."""
    given = click.get_current_context().meta.get(_INLINE_MAX)
    return settings.inline_max_bytes if given is None else int(given)


def placement(settings: Settings) -> Placement:
    """Where what a command stores goes."""
    from exporter.artifacts.logs import Placement

    return Placement(objects(settings), inline_max_bytes(settings), settings.inline_total_max_bytes)


def _remember_url(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and not value.strip():
        from exporter.artifacts.objects import ACCEPTED

        raise BadInput("--blob-url", "it is empty", accepted=ACCEPTED)
    context.meta[_URL] = value


def _remember_inline_max(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta[_INLINE_MAX] = value
