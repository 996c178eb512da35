"""Processes that read a large source and work out its rows while another merges them.

Python uses one core a process, and reading costs more than merging. Each reader has connections of
its own to source and archive, is sent ids, and answers with COPY text; it merges nothing, so that
killing one loses nothing. It ends when its parent does, whatever way that goes.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

import psycopg

from exporter.db.connect import translate
from exporter.db.prices import price_table
from exporter.errors import DatabaseError, ExporterError
from exporter.importers.places import Places
from exporter.importers.prepare import Models, Prepared, Preparer
from exporter.importers.source import Listed, Source, SourceReplaced

Connection = psycopg.Connection[Any]
Batch: TypeAlias = Sequence[Listed]

#: Batches that a reader has before it, so that it never waits for the next one.
_AHEAD: Final = 2


class _Said(Enum):
    """What a reader says, apart from prepared batches and failures (sentence, hint)."""

    #: The source was replaced.
    REPLACED = auto()
    #: A server does not let the reader in, most likely as it has no connection left.
    NO_CONNECTION = auto()


@dataclass(frozen=True, slots=True)
class Task:
    """What a reader is to read; picklable, as another process must understand it."""

    open_source: Callable[[], Source]
    connect: Callable[[], Connection]
    source_id: int


def read_by(
    count: int, task: Task, batches: Iterator[Batch], prepare: Callable[[Batch], Prepared]
) -> Generator[Prepared, None, None]:
    """Prepare the batches in ``count`` processes; they come back in any order.

    What readers without a connection leave over is prepared here, by ``prepare``. Raises what the
    readers met: `SourceReplaced`, errors of the source or of the archive.
    """
    # Not fork: a child would inherit our connections.
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes: deque[Pipe] = deque()
        for _ in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=_read, args=(task, theirs), daemon=True)
            with _interrupts_ignored():
                process.start()
            stack.callback(_end, process)
            stack.enter_context(closing(ours))
            theirs.close()
            pipes.append(ours)
        yield from _exchange(pipes, batches, prepare)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a child inherit that it ignores SIGINT, which would end it with a trace-back as long as
    it has not begun to run our code."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(process: BaseProcess) -> None:
    """A reader whose pipe is closed ends by itself, unless it waits for a server or a disk."""
    process.join(timeout=1)
    if process.is_alive():
        process.terminate()
        process.join()


def _exchange(
    pipes: Sequence[Pipe], batches: Iterator[Batch], prepare: Callable[[Batch], Prepared]
) -> Generator[Prepared, None, None]:
    #: What each reader has before it; it answers in this order.
    held: dict[Pipe, deque[Batch]] = {pipe: deque() for pipe in pipes}
    given_back: deque[Batch] = deque()

    def following() -> Batch | None:
        return given_back.popleft() if given_back else next(batches, None)

    def send(pipe: Pipe) -> None:
        batch = following()
        if batch is not None:
            held[pipe].append(batch)
            # What a reader said before it ended is still to be read.
            with suppress(ConnectionError):
                pipe.send(batch)

    for _ in range(_AHEAD):
        for pipe in pipes:
            send(pipe)
    while any(held.values()):
        for ready in wait([pipe for pipe, waiting in held.items() if waiting]):
            assert isinstance(ready, Pipe)
            found = _answer(ready)
            if found is None:
                given_back.extend(held.pop(ready))
                continue
            held[ready].popleft()
            send(ready)
            yield found
    while (batch := following()) is not None:
        yield prepare(batch)


def _answer(pipe: Pipe) -> Prepared | None:
    """What a reader prepared, None where it has no connection. Raises what it met."""
    try:
        said = pipe.recv()
    except (EOFError, ConnectionError):
        raise ExporterError(
            "a reading process of the import died", hint="run the same command again"
        ) from None
    if isinstance(said, Prepared):
        return said
    if said is _Said.NO_CONNECTION:
        return None
    if said is _Said.REPLACED:
        raise SourceReplaced
    message, hint = said
    raise ExporterError(message, hint=hint)


def _read(task: Task, pipe: Pipe) -> None:
    """A reader: batches in, prepared ones out, until the parent hangs up.

    The parent decides what a signal to all of us means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    batches = _received(pipe)
    try:
        with ExitStack() as stack:
            try:
                conn = stack.enter_context(closing(task.connect()))
                source = stack.enter_context(closing(task.open_source()))
            except DatabaseError:
                _tell(pipe, _Said.NO_CONNECTION)
                return
            # The parent has counted those of opening.
            source.repairs.counts.clear()
            places = Places.load(conn, task.source_id)
            models = Models(conn, price_table(conn))
            preparer = Preparer(conn, source, task.source_id, places, models)
            while (batch := batches.get()) is not None:
                pipe.send(preparer.prepare(batch))
    except ConnectionError:
        return
    except SourceReplaced:
        _tell(pipe, _Said.REPLACED)
    except psycopg.Error as error:
        failure = translate(error, "the archive")
        _tell(pipe, (failure.message, failure.hint))
    except ExporterError as error:
        _tell(pipe, (error.message, error.hint))
    except Exception as error:
        # Its text may quote what was read.
        name = type(error).__name__
        _tell(
            pipe,
            (
                f"a reading process of the import met an unexpected {name}",
                "run the same command again; please report it if that does not help",
            ),
        )


def _received(pipe: Pipe) -> SimpleQueue[Batch | None]:
    """The batches that the parent sends, None once it hung up.

    A thread takes them at once: were they left in the pipe, the parent could wait for room to send
    to us while we wait for room to answer.
    """
    batches: SimpleQueue[Batch | None] = SimpleQueue()

    def receive() -> None:
        try:
            with suppress(EOFError, OSError):
                while True:
                    batches.put(pipe.recv())
        finally:
            batches.put(None)

    threading.Thread(target=receive, daemon=True).start()
    return batches


def _tell(pipe: Pipe, what: _Said | tuple[str, str]) -> None:
    # Where the parent is gone, so is whoever would have listened.
    with suppress(OSError):
        pipe.send(what)
