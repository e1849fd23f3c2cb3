"""--debug: what a report of a bug needs is on standard error, from every process, and nothing of it without."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tagger import __version__, debug
from tagger.cli.main import COMMANDS, main
from tests.support.fakes import make_tone

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"debug \d\d:\d\d:\d\d\.\d{3} (\d+) ([\w.]+): (.*)")


@pytest.fixture
def genre_tag(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: its exit code, and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        return (int(exit_.value.code or 0), *capsys.readouterr())

    return run


@contextmanager
def turned_on() -> Iterator[None]:
    debug.turn_on()
    try:
        yield
    finally:
        debug.turn_off()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A song whose audio is zeros behind its head, and one that is whole."""
    (tmp_path / "music").mkdir()
    make_tone(tmp_path / "music" / "rock.flac", "Rock")
    data = (tmp_path / "music" / "rock.flac").read_bytes()
    (tmp_path / "music" / "bad.flac").write_bytes(data[:200] + bytes(len(data) - 200))
    return tmp_path / "music"


def in_a_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tagger", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("order", ["before", "behind"])
def test_every_command_takes_it(command: str, order: str, genre_tag: Callable[..., tuple[int, str, str]]) -> None:
    typed = ["--debug", command, "--help"] if order == "before" else [command, "--debug", "--help"]
    code, out, err = genre_tag(*typed)
    assert code == 0 and out.startswith(f"Usage: genre-tag {command}") and "--debug" not in out
    assert err.count(f"genre-tag {__version__}, Python") == 1 and f"arguments: ['genre-tag', '{typed[0]}'" in err
    assert re.search(r"libraries: .*\bav \d.*\bopenvino \d", err)
    assert all(LINE.fullmatch(line) for line in err.splitlines())
    assert not debug.is_on() and genre_tag(command, "--help") == (0, out, "")


def test_the_help_of_all_names_it(genre_tag: Callable[..., tuple[int, str, str]]) -> None:
    assert "--debug" in genre_tag("--help")[1]
    code, _, err = genre_tag("--debug")  # as without a word
    assert code == 2 and "Usage: genre-tag" in err


def test_a_path_behind_it_is_a_path(broken: Path, genre_tag: Callable[..., tuple[int, str, str]]) -> None:
    (broken / "rock.flac").unlink()
    code, out, err = genre_tag("--debug", "--limit", "1", broken)
    assert code == 1 and out.startswith("bad.flac  failed")
    assert f"{broken / 'bad.flac'} is to be classified" in err


def test_every_process_logs_and_what_is_swallowed_has_its_traceback(broken: Path) -> None:
    done = in_a_process("--debug", broken)
    assert done.returncode == 1
    swallowed = re.search(r"^debug \S+ (\d+) tagger\.audio\.workers: Wanted\(.*bad\.flac", done.stderr, re.MULTILINE)
    assert swallowed
    decoder_pid, failed = swallowed[1], done.stderr[swallowed.end() :]
    assert f"decoder {decoder_pid} started" in done.stderr
    main_pids = {match[1] for match in map(LINE.match, done.stderr.splitlines()) if match and "models" in match[2]}
    assert len(main_pids) == 1 and decoder_pid not in main_pids
    assert re.search(r"^Traceback(.*\n)+tagger\.errors\.AudioError: .*bad\.flac", failed, re.MULTILINE)
    # The engine, and why it was chosen.
    assert re.search(r"timed on this machine: fp32 on \d+ threads? [\d.e+]+/s.*OpenVINO", done.stderr)
    assert re.search(r"model starter on cpu by OpenVINO [\d.]+ in \w+ \(fastest here: ", done.stderr)


def test_without_it_nothing_is_logged(broken: Path) -> None:
    plain, debugged = in_a_process(broken), in_a_process("--debug", "--reanalyze", broken)
    assert plain.returncode == 1 and "Traceback" not in plain.stderr and "debug" not in plain.stderr
    assert plain.stdout == debugged.stdout
    assert [line for line in plain.stderr.splitlines() if "songs:" in line]


def test_an_expected_error_shows_its_chain_and_its_line(
    tmp_path: Path, genre_tag: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    (tmp_path / "model" / "model.safetensors").touch()
    make_tone(tmp_path / "rock.flac", "Rock")
    arguments = "tag", tmp_path / "rock.flac", "--model", tmp_path / "model"
    code, _, line = genre_tag(*arguments)
    assert code == 3 and line.startswith("genre-tag: ") and line.count("\n") == 1
    code, _, err = genre_tag("--debug", *arguments)
    assert code == 3 and err.endswith(line)
    assert "json.decoder.JSONDecodeError: " in err and "direct cause" in err and "tagger.errors.ModelError: " in err


def test_wrong_usage_is_logged_too(genre_tag: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = genre_tag("--debug", "tag", "--no-such-option")
    assert code == 2 and "NoSuchOption" in err and err.splitlines()[-1].startswith("genre-tag: No such option")


def test_names_harm_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with turned_on():
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            logging.getLogger("tagger.audio").debug("%s", Path(os.fsdecode(b"a\xff\x1b]0;x\x07.mp3")), exc_info=True)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.endswith("tagger.audio: a\\xff\\x1b]0;x\\x07.mp3") and last == "ValueError: \\x1b[2J"


def test_suppress_is_that_of_contextlib_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    with turned_on():
        with debug.suppress(OSError, ValueError):
            raise FileNotFoundError(2, "No such file", "a.mp3")
        told = capsys.readouterr().err
        assert "swallowed\nTraceback" in told and "FileNotFoundError" in told and "a.mp3" in told
        with pytest.raises(KeyError), debug.suppress(OSError):
            raise KeyError("b")
        with debug.suppress(OSError):
            pass
        assert capsys.readouterr().err == ""


def test_it_is_turned_on_once_and_off(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        debug.turn_on()
    logging.getLogger("training.x").debug("once")
    logging.getLogger("urllib3").debug("another's")
    debug.turn_off()
    logging.getLogger("training.x").debug("off")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("training.x: once") and not debug.is_on()
    assert not logging.getLogger("tagger").isEnabledFor(logging.DEBUG)
