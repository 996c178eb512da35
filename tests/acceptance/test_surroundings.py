"""The program where little is as it should be: streams, locale, paths, numbers, signals."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from exporter.cli import main, output
from exporter.db import server
from tests.postgres import UNSAFE_AND_FAST, new_folder

PROGRAM = [sys.executable, "-m", "exporter"]
SECRET = "hunt" + "er2"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

#: Commands that write to stdout, with what they read from stdin; {url} is a database.
WRITERS = {
    "sessions": (["sessions", "--ndjson", "--database-url", "{url}"], b""),
    "usage": (["usage", "daily", "--database-url", "{url}"], b""),
    "pricing": (["pricing", "show", "-", "--database-url", "{url}"], b"m\n"),
    "validate": (["contract", "validate", "-", "--surface", "cursor_reset"], b"{}\n"),
}


def shell(
    command: str, *arguments: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and stderr of a line of sh, whose ``"$@"`` is the program with its arguments."""
    done = subprocess.run(
        ["sh", "-c", command, "sh", *PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environ or {})},
    )
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert "unexpected" not in said
    return done.returncode, said


def prepared(name: str, url: str) -> tuple[list[str], bytes]:
    arguments, stdin = WRITERS[name]
    return [argument.format(url=url) for argument in arguments], stdin


# --- Streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_a_closed_stdout_is_told_as_data_was_lost(name: str, database_url: str) -> None:
    arguments, stdin = prepared(name, database_url)
    code, said = shell('"$@" >&-', *arguments, stdin=stdin)
    assert (code, said.count("\n")) == (1, 1)
    assert "stdout is closed" in said


@needs_full
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_stdout_is_told_as_data_was_lost(name: str, database_url: str) -> None:
    arguments, stdin = prepared(name, database_url)
    code, said = shell('"$@" >/dev/full', *arguments, stdin=stdin)
    assert (code, said.count("\n")) == (1, 1)
    assert "no space left on device" in said


@needs_full
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("name", WRITERS)
def test_without_stderr_the_result_is_the_same(
    name: str, redirection: str, database_url: str
) -> None:
    arguments, stdin = prepared(name, database_url)
    assert shell(f'"$@" {redirection}', *arguments, stdin=stdin)[0] == (
        3 if stdin == b"{}\n" else 0
    )
    assert shell(f'"$@" {redirection}', "sessions", "--limit", "x") == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["contract", "validate", "-"],
        ["identity", "normalize", "-"],
        ["pricing", "import", "-"],
        ["pricing", "digest", "--rows", "-"],
    ],
    ids=" ".join,
)
def test_a_closed_stdin_is_told(arguments: list[str]) -> None:
    code, said = shell('"$@" <&-', *arguments)
    assert code in (1, 2)
    assert "stdin cannot be read (it is closed)" in said


@pytest.mark.parametrize("name", WRITERS)
def test_a_reader_that_went_away_is_no_failure(name: str, database_url: str) -> None:
    arguments, stdin = prepared(name, database_url)
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.write(stdin)
    process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (0, b"")


def test_a_file_that_is_checked_is_not_blamed_for_a_full_stdout(tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("{}\n" * 20_000)
    arguments = ["contract", "validate", str(tmp_path / "odd"), "--surface", "cursor_reset"]
    code, said = shell('"$@" | head -c 1 >/dev/null', *arguments)
    assert (code, said) == (0, "")


# --- Locale ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "en_US.ISO-8859-1", "LANG": ""},
    ],
    ids=["C", "ascii", "latin"],
)
def test_output_is_utf8_whatever_the_locale(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes('["Zoë→"]'.encode())
    arguments = [*PROGRAM, "pricing", "show", "-", "--patterns", str(tmp_path / "p.json")]
    for flags in ([], ["--json"]):
        done = subprocess.run(
            [*arguments, *flags],
            env={**os.environ, **environ},
            input="Zoë→\n".encode(),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert "Zoë→" in done.stdout.decode()
    assert json.loads(done.stdout)["model"] == "Zoë→"


# --- Paths ----------------------------------------------------------------------------------

LONG = "x" * 5_000
PATHS = ["~nosuchuser/x", LONG, f"{__file__}/x", "/proc/none/\udcff", " "]


def refused(*arguments: str, **environ: str) -> str:
    code, said = shell('"$@"', *arguments, environ=environ)
    assert code in (1, 2)
    assert said.startswith("fatal: ")
    assert said.count("\n") == 1
    assert len(said) < 1_500
    return said


@pytest.mark.parametrize("path", PATHS, ids=["no user", "long", "below a file", "bytes", "blank"])
def test_a_path_that_cannot_be_is_told(path: str, tmp_path: Path) -> None:
    refused("contract", "validate", path)
    refused("pricing", "digest", "--rows", path)
    refused("pricing", "show", "m", "--custom-prices", path)
    refused("pricing", "show", "m", "--custom-prices", "", EXPORTER_CUSTOM_PRICES=path)
    if path != " ":
        refused("db", "start", EXPORTER_HOME=path)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("path", PATHS[:4], ids=["no user", "long", "below a file", "bytes"])
def test_an_output_that_cannot_be_is_told(path: str, database_url: str) -> None:
    said = refused("sessions", "--output", path, "--database-url", database_url)
    assert "cannot be written" in said
    refused("import", "agentsview", path, "--database-url", database_url)


#: Run with all it needs loaded, since another account may not be able to read the interpreter.
AS_ANOTHER = """
import fcntl, os, sys
from pathlib import Path
from exporter.cli.output import file_target
from exporter.db import server
from exporter.errors import ExporterError
from exporter.importers import agentsview_sqlite
folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
def write():
    with file_target(str(folder / "x.json")) as out:
        out.write(b"x")
for attempt in (lambda: server.start(folder), lambda: server.start(folder / "new"), write,
                lambda: agentsview_sqlite.SqliteSource(folder / "archive")):
    try:
        attempt()
    except ExporterError as error:
        print(error.code, error)
"""


def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    """Root may write everywhere, so it is another account that tries."""
    private = tmp_path / "private"
    private.mkdir(mode=0o000)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(private)],
        capture_output=True,
        text=True,
        check=False,
    )
    private.chmod(0o700)
    codes = [line.partition(" ")[0] for line in done.stdout.splitlines()]
    wanted = ["folder_not_writable", "folder_not_writable", "output_failed", "source_unreadable"]
    assert (done.stderr, codes) == ("", wanted)


def test_an_account_without_a_home_folder_is_told_to_name_one() -> None:
    """Known by a number only, as in some containers; what it needs is loaded before."""
    code = (
        "import os, platformdirs, pwd, sys\n"
        "from exporter.settings import Settings\n"
        "if os.geteuid() == 0: os.setuid(54321)\n"
        "pwd.getpwuid = lambda uid: {}[uid]\n"
        "print(Settings().home)\n"
    )
    environ = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_DATA_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("exporter.errors.BadInput: EXPORTER_HOME: ")


# --- Numbers and words ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["9" * 5_000, "-" + "9" * 5_000, "nan", "inf", "1e400", "٣", "１"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "quarantine", "--limit"],
        ["contract", "show", "sessions", "--schema-version"],
        ["artifacts", "verify", "--sample"],
        ["sessions", "--limit"],
        ["backfill", "--share"],
        ["backfill", "--max-rows-per-second"],
        ["backfill", "--workers"],
    ],
    ids=" ".join,
)
def test_a_number_that_cannot_be_meant_is_told(arguments: list[str], value: str) -> None:
    assert _told(main.run, [*arguments, value]) in (1, 2)


def _told(run: Callable[[Sequence[str]], int], arguments: list[str]) -> int:
    """The exit code of a run in this process, which must have told its failure in a line."""
    out, said = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        code = run(arguments)
    assert out.getvalue() == ""
    assert said.getvalue().startswith("fatal: ")
    assert said.getvalue().count("\n") == 1
    assert "unexpected" not in said.getvalue()
    assert len(said.getvalue()) < 1_500
    return int(code)


@pytest.mark.parametrize("name", ["CONNECT_TIMEOUT", "LOCK_TIMEOUT_MS", "STATEMENT_TIMEOUT_MS"])
@pytest.mark.parametrize("value", ["9" * 5_000, "nan", "-1", "2147483648"], ids=len)
def test_a_variable_that_cannot_be_meant_is_told(name: str, value: str) -> None:
    said = refused("db", "status", **{f"EXPORTER_{name}": value})
    assert said.startswith(f"fatal: EXPORTER_{name}: ")


@pytest.mark.parametrize("option", ["--project", "--agent", "--git-branch", "--cursor"])
def test_text_that_is_not_utf8_is_told(option: str, database_url: str) -> None:
    said = refused("sessions", option, "\udcff", "--database-url", database_url)
    assert "is not UTF-8" in said


@pytest.mark.parametrize("option", ["--limit", "--date", "--output"])
def test_a_password_in_the_wrong_place_is_not_repeated(option: str, database_url: str) -> None:
    url = f"postgresql://me:{SECRET}@db.example/a"
    said = refused("sessions", option, url, "--database-url", database_url)
    assert SECRET not in said


# --- Databases ------------------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    """A home whose server runs; both are gone afterwards."""
    folder = new_folder()
    server.start(folder / "home", UNSAFE_AND_FAST)
    yield folder / "home"
    server.stop(folder / "home")
    shutil.rmtree(folder)


def test_variables_of_libpq_do_not_lead_away_from_the_embedded_server(home: Path) -> None:
    astray = {
        "PGSERVICE": "no-such-service",
        "PGHOST": "db.invalid",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "99",
        "PGUSER": "somebody",
        "PGDATABASE": "elsewhere",
        "PGPASSWORD": SECRET,
        "PGOPTIONS": "-c search_path=elsewhere",
        "PGSSLMODE": "bogus",
        "PGSSLNEGOTIATION": "direct",
        "PGCHANNELBINDING": "require",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCONNECT_TIMEOUT": "soon",
    }
    for arguments in (["db", "upgrade"], ["db", "status"], ["sessions", "--all"]):
        code, said = shell('"$@"', *arguments, environ={"EXPORTER_HOME": str(home), **astray})
        assert (code, said) == (0, "")


def test_variables_of_libpq_keep_their_meaning_for_a_url(database_url: str) -> None:
    said = refused("db", "status", "--database-url", database_url, PGSERVICE="no-such-service")
    assert "its service" in said


@pytest.mark.parametrize(
    "tail",
    [
        ":99999/a",
        ":no-port/a",
        "/a?sslmode=sometimes",
        "/a?target_session_attrs=any-old",
        ",127.0.0.1,127.0.0.1:no/a",
        "/%zz",
        "/a?options=%00",
        "/" + LONG,
        "." + LONG + "/a",
        "/a?connect_timeout=soon",
        ":1,127.0.0.1:2/a",
    ],
    ids=lambda tail: tail[:24],
)
def test_a_url_that_does_not_work_is_told_without_its_password(tail: str) -> None:
    for password in (SECRET, SECRET.replace("e", "%65")):
        url = f"postgresql://me:{password}@127.0.0.1{tail}"
        said = refused("db", "status", "--database-url", url)
        assert SECRET not in said
        assert password not in said
    assert SECRET not in refused("db", "url", "--database-url", url)


@pytest.mark.parametrize("url", ["", "  "])
def test_an_option_that_lost_its_value_does_not_mean_the_embedded_server(url: str) -> None:
    assert "--database-url: it is empty" in refused("db", "status", "--database-url", url)


# --- Signals --------------------------------------------------------------------------------

#: A signal at every 250th thing that the program does while it loads, and at its end.
INTERRUPTED = """
import os, sys
from exporter import __main__
count, wanted, number = 0, int(sys.argv[1]), int(sys.argv[2])
def trace(frame, event, argument):
    global count
    count += 1
    if count == wanted:
        sys.settrace(None)
        os.kill(os.getpid(), number)
    return trace
sys.argv[1:] = ["identity", "normalize", "git@h:a/b"]
sys.settrace(trace)
__main__.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_program_loads_ends_it_quietly(number: signal.Signals) -> None:
    # Before our code runs, SIGTERM ends any program without a word.
    for step in (300, 1_000, 5_000, 20_000, 60_000):
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, str(step), str(int(number))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (128 + number, -number, 0), step
        assert done.stderr in (
            "",
            f"fatal: stopped by {number.name}; run the same command again to continue\n",
        ), step


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from exporter.cli import signals\n"
        "signals.leave_at_once()\n"
        "signals.unwind()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Files ----------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from exporter.cli import output
with output.file_target(sys.argv[1]) as out:
    out.write(b"x" * 5_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_export_leaves_nothing_beside_its_target(tmp_path: Path) -> None:
    handle = output._nameless(tmp_path)
    if handle is None:
        pytest.skip("this file system has no nameless files")
    os.close(handle)
    (tmp_path / "kept.json").write_text("old")
    for name in ("kept.json", "new.json"):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
        assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
    assert (tmp_path / "kept.json").read_text() == "old"


@pytest.mark.parametrize("has_nameless", [True, False])
@pytest.mark.parametrize(("private", "mode"), [(False, 0o644), (True, 0o600)])
def test_a_file_appears_whole_and_with_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_nameless: bool, private: bool, mode: int
) -> None:
    if not has_nameless:
        monkeypatch.setattr(output, "_nameless", lambda folder: None)
    before = os.umask(0o022)
    try:
        for text in (b"first", b"second"):
            with output.file_target(str(tmp_path / "x"), private=private) as out:
                out.write(text)
            assert (tmp_path / "x").read_bytes() == text
        with pytest.raises(KeyError), output.file_target(str(tmp_path / "x")) as out:
            out.write(b"half")
            raise KeyError
    finally:
        os.umask(before)
    assert (tmp_path / "x").read_bytes() == b"second"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@needs_full
def test_a_device_is_written_into_and_stays_a_device() -> None:
    with output.file_target(os.devnull, private=True) as out:
        out.write(b"x")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("sessions", "--help")])
def test_help_and_version_answer_at_once(arguments: tuple[str, ...]) -> None:
    """Below 0.3 seconds of the processor: what else the machine does is not counted."""
    seconds = []
    for _ in range(3):
        before = _children_seconds()
        assert shell('"$@"', *arguments) == (0, "")
        seconds.append(_children_seconds() - before)
    assert min(seconds) < 0.3


def _children_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
