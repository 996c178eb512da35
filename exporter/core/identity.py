"""Which project a session belongs to, recognised across machines and archives.

An archive notes where each project was seen: a root path on a machine and, if there is one, a
git remote. The key of a project is a hash of the remote in one spelling or, without a usable
remote, of the root path. This module derives keys from stored rows, decides what a project label
stands for, falls back to the places where sessions ran, and finds the worktree of a session.

The spelling rules for remotes are in `exporter.core.remotes`. Everything works on text alone: no
link is followed and no ``.git`` is looked for, so the machine that exports has no say in a key.
Functions that take rows take any iterable, read it once and keep one result per label.

`repr` of the values here shows neither remotes nor paths, which may hold passwords and names.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.core.remotes import (
    clean_path,
    is_drive_path,
    normalize_remote,
    readable_text,
    storage_form,
)
from exporter.core.resolution import (
    UNKNOWN,
    Identity,
    KeySource,
    ProjectResolution,
    Resolution,
)
from exporter.core.text import trim, utf8_bytes

__all__ = [
    "Identity",
    "KeySource",
    "MappedRoots",
    "Observation",
    "ProjectResolution",
    "Repair",
    "Resolution",
    "SessionPlace",
    "Worktree",
    "WorktreeIndex",
    "WorktreeMapping",
    "derive_identity",
    "identity_key",
    "match_worktree",
    "normalize_root_path",
    "path_identity",
    "plan_repair",
    "remote_identity",
    "resolve_from_sessions",
    "resolve_projects",
    "session_directory",
    "session_identity",
]

_WORKTREES_SUFFIX: Final = ".worktrees"


@dataclass(frozen=True, slots=True)
class Observation:
    """One stored sighting of a project; absent texts are ''."""

    project: str
    machine: str
    root_path: str = field(default="", repr=False)
    git_remote: str = field(default="", repr=False)
    git_remote_name: str = ""
    worktree_name: str = ""
    worktree_root_path: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """Where sessions of a project ran; equal places of many sessions are needed only once."""

    project: str
    machine: str
    #: Working directory as the session recorded it, '' when it did not.
    cwd: str = field(default="", repr=False)
    #: Directory of the session's file, see `session_directory`.
    directory: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class WorktreeMapping:
    """An operator's rule: paths below a prefix belong to a project."""

    machine: str
    #: Cleaned path; '' matches nothing.
    path_prefix: str = field(repr=False)
    #: ``explicit`` or '': the project is named here. ``repo_dot_worktrees``: it is read off
    #: ``<prefix>/<project>.worktrees/``. Any other layout matches nothing.
    layout: str
    project: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Worktree:
    """The worktree a session ran in; either field may be missing."""

    name: str | None
    root_path: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Repair:
    """One change to a stored observation, named by its `git_remote`.

    `row` replaces the observation, and also the one that already has the remote of `row`.
    None means that the observation is deleted. `observed_at` stays with the row.
    """

    git_remote: str = field(repr=False)
    row: Observation | None


def identity_key(key_source: KeySource, value: str | bytes) -> str:
    """Return the key of a normalised remote or root path, the only things that enter it."""
    encoded = utf8_bytes(value) if isinstance(value, str) else value
    return "sha256:" + hashlib.sha256(key_source.encode() + b"\n" + encoded).hexdigest()


def normalize_root_path(path: str) -> str | None:
    r"""Return a stored root path in its one spelling, None when it is not an absolute path.

    Rooted paths and Windows drive paths count, the latter as ``C:/…`` on every system; ``~``,
    relative paths, URLs and ``host:path`` do not. ``\`` separates like ``/``. Links are not
    resolved, even if the path exists on this machine: a stored path is about another place.
    """
    text = trim(path)
    if "://" in text:
        return None
    if is_drive_path(text):
        return text[0].upper() + ":" + clean_path(text[2:].replace("\\", "/"))
    # A host before a colon needs no look: such a text does not start with a slash.
    return clean_path(text.replace("\\", "/")) if text.startswith("/") else None


def remote_identity(git_remote: str) -> Identity | None:
    """Return the identity that a remote gives, None when it cannot be used as one."""
    normalized = normalize_remote(git_remote)
    if normalized is None:
        return None
    key = identity_key("git_remote", normalized)
    return Identity(key, "git_remote", normalized_remote=readable_text(normalized))


def path_identity(path: str) -> Identity | None:
    """Return the identity that a root path gives, None when it is not an absolute path."""
    normalized = normalize_root_path(path)
    if normalized is None:
        return None
    shown = readable_text(utf8_bytes(normalized))
    key = identity_key("root_path", normalized)
    return Identity(key, "root_path", root_path=shown, machine_local=True)


def derive_identity(root_path: str, git_remote: str, worktree_root_path: str) -> Identity | None:
    """Return the identity of one stored observation, None when nothing in it is usable.

    A usable remote decides. Without any remote the worktree's root comes before `root_path`;
    beside an unusable one it does not count.
    """
    if identity := remote_identity(git_remote):
        return identity
    use_worktree = not git_remote and worktree_root_path
    return path_identity(worktree_root_path if use_worktree else root_path)


def resolve_projects(
    labels: Iterable[str], observations: Iterable[Observation]
) -> dict[str, ProjectResolution]:
    """Return what each label stands for, going by its observations, in byte order of labels.

    Every label appears, `unknown` if no observation is usable, and so does every label that has
    an observation here without having been asked for. The order of the rows has no effect.
    """
    projects = dict.fromkeys(labels, UNKNOWN)
    for row in observations:
        known = projects.get(row.project, UNKNOWN)
        if known.resolution != "ambiguous":
            found = derive_identity(row.root_path, row.git_remote, row.worktree_root_path)
            known = known.including(found)
        projects[row.project] = known
    return dict(sorted(projects.items(), key=lambda entry: utf8_bytes(entry[0])))


def resolve_from_sessions(
    projects: Mapping[str, ProjectResolution],
    places: Iterable[SessionPlace],
    mappings: Iterable[WorktreeMapping],
) -> dict[str, ProjectResolution]:
    """Return `projects` with the unknown ones resolved by where their sessions ran.

    `places` are those of sessions that are not deleted; places of other labels are skipped, so
    the caller may leave them out. Order and repetitions have no effect.
    """
    roots = MappedRoots(mappings)
    filled = dict(projects)
    unknown = {label for label, known in projects.items() if known.resolution == "unknown"}
    for place in places:
        if place.project in unknown:
            known = filled[place.project].including(session_identity(place, roots))
            filled[place.project] = known
            if known.resolution == "ambiguous":
                unknown.remove(place.project)
    return filled


class MappedRoots:
    """The enabled worktree mappings, prepared for looking up many paths."""

    __slots__ = ("_mappings",)

    def __init__(self, mappings: Iterable[WorktreeMapping]) -> None:
        self._mappings: dict[tuple[str, str], list[WorktreeMapping]] = {}
        for mapping in mappings:
            if mapping.enabled and mapping.path_prefix:
                place = mapping.machine, mapping.path_prefix.rstrip("/") or "/"
                self._mappings.setdefault(place, []).append(mapping)

    def roots(self, project: str, machine: str, path: str) -> Iterator[str]:
        """Yield the root of each mapping that covers a cleaned path for a project.

        The longest prefix comes first. Two prefixes of one path never have the same length.
        """
        machine = trim(machine)
        for prefix in _path_and_ancestors(path):
            for mapping in self._mappings.get((machine, prefix), ()):
                root = _mapped_root(mapping, project, path)
                if root is not None:
                    yield root


def _mapped_root(mapping: WorktreeMapping, project: str, path: str) -> str | None:
    """Return the root that a mapping gives to a path at or below its prefix, None if not its."""
    if mapping.layout in ("", "explicit"):
        return mapping.path_prefix if mapping.project == project else None
    if mapping.layout != "repo_dot_worktrees":
        return None
    base = mapping.path_prefix.rstrip("/")
    directory, _, below = path[len(base) + 1 :].partition("/")
    repository = trim(directory.removesuffix(_WORKTREES_SUFFIX))
    if not below or not repository or not directory.endswith(_WORKTREES_SUFFIX):
        return None
    # Labels are saved with underscores, directories keep their hyphens.
    return f"{base}/{directory}" if repository.replace("-", "_") == project else None


def session_directory(file_path: str) -> str:
    """Return the directory of a session's file, ``.`` for a bare name and for ''."""
    return trim(clean_path(file_path[: file_path.rfind("/") + 1]))


def session_identity(place: SessionPlace, roots: MappedRoots) -> Identity | None:
    """Return the identity that the place of a session gives its project, None if it has none.

    Working directory and file directory are tried in byte order: first for a mapping that covers
    one of them, then as root paths themselves.
    """
    paths = {trim(place.cwd), trim(place.directory)}
    usable = sorted((p for p in paths if normalize_root_path(p) is not None), key=utf8_bytes)
    for path in usable:
        for root in roots.roots(place.project, place.machine, clean_path(path)):
            if identity := path_identity(root):
                return identity
    return path_identity(usable[0]) if usable else None


class WorktreeIndex:
    """The worktrees of one project on one machine, prepared for matching many sessions."""

    __slots__ = ("_worktrees",)

    def __init__(self, observations: Iterable[Observation]) -> None:
        """Take the observations of one project and machine, in any order."""
        #: Cleaned path to rank and worktree; of several with one path the lowest rank stays.
        self._worktrees: dict[str, tuple[int, Worktree]] = {}
        named = (row for row in observations if row.worktree_name or row.worktree_root_path)
        ordered = sorted(
            named, key=lambda row: (utf8_bytes(row.root_path), utf8_bytes(row.git_remote))
        )
        for rank, row in enumerate(ordered):
            worktree = Worktree(row.worktree_name or None, row.worktree_root_path or None)
            for path in filter(None, (row.worktree_root_path, row.root_path)):
                self._worktrees.setdefault(clean_path(path), (rank, worktree))

    def match(self, cwd: str) -> Worktree | None:
        """Return the worktree nearest above a working directory, None without one.

        A worktree matches by its own root or by the observed root; the longest cleaned path
        wins, then the first observation in byte order of root and remote.
        """
        path = clean_path(cwd)
        if path == ".":
            return None
        ancestors = [a for a in _path_and_ancestors(path) if a in self._worktrees][:1]
        if "." in self._worktrees and path.split("/", 1)[0] not in ("", ".."):
            ancestors.append(".")
        if not ancestors:
            return None
        nearest = min(ancestors, key=lambda a: (-len(a), self._worktrees[a][0]))
        return self._worktrees[nearest][1]


def match_worktree(cwd: str, observations: Iterable[Observation]) -> Worktree | None:
    """Return the worktree of one session; for many sessions keep a `WorktreeIndex`."""
    return WorktreeIndex(observations).match(cwd)


def plan_repair(rows: Sequence[Observation]) -> list[Repair]:
    """Return the changes that bring the remotes of stored observations into storage form.

    `rows` are all observations of one project, machine and root path. Apply the changes in
    order and derive the other columns anew. A row without a remote goes when there is one with;
    a row whose remote has no storage form becomes that row, or goes likewise. Rows already in
    storage form are left alone.
    """
    remotes = {row.git_remote for row in rows if row.git_remote}
    changes: list[Repair] = []
    for row in sorted(rows, key=lambda row: utf8_bytes(row.git_remote)):
        stored = storage_form(row.git_remote)
        if row.git_remote and stored == row.git_remote:
            continue
        remotes.discard(row.git_remote)
        if stored:
            remotes.add(stored)
        if stored or (row.git_remote and not remotes):
            changes.append(Repair(row.git_remote, replace(row, git_remote=stored)))
        elif remotes:
            changes.append(Repair(row.git_remote, None))
    return changes


def _path_and_ancestors(path: str) -> Iterator[str]:
    """Yield a cleaned path and the paths above it that it names, longest first.

    Above ``../..`` lies no path that its text names: ``..`` is below it.
    """
    yield path
    while "/" in path and path != "/" and not path.endswith("/.."):
        path = path[: path.rfind("/")] or "/"
        yield path
