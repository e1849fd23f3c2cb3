"""What people see: rows, progress and summary, with names that cannot harm a terminal."""

import io
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.audio.library import Found
from tagger.pipeline.aggregate import Decision, unsure
from tagger.pipeline.cache import Contents, Method, MethodUse
from tagger.pipeline.run import SongResult
from tagger.terminal.screen import Screen, counting, cut_in_front, folded, outcome, print_contents, undone_summary
from tagger.text import printable
from tests.support.screens import Terminal

JAZZ = Decision(("Jazz",), (("Jazz", 0.91), ("Blues", 0.05), ("Rock", 0.03), ("Pop", 0.01)), "")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b"),
        ("line\nbreak\r\t", "line\\nbreak\\r\\t"),
        ("\u202egpj.3pm", "\\u202egpj.3pm"),
        ("\x9b31m", "\\x9b31m"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("[bold red]x[/]", "[bold red]x[/]"),
        ("日本語 é 🎵\u00a0", "日本語 é 🎵\u00a0"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_printable_spells_out_what_a_terminal_would_obey(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown
    printable(hostile).encode("utf-8")


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (SongResult(Path("a"), "tagged", (), ("Jazz",), JAZZ), "– → Jazz (0.91)"),
        (SongResult(Path("a"), "tagged", ("Pop",), ("Pop", "Jazz"), JAZZ), "Pop → Pop; Jazz (0.91)"),
        (SongResult(Path("a"), "kept", ("Pop",), ("Pop",), JAZZ), "Pop  kept (predicted Jazz 0.91)"),
        (SongResult(Path("a"), "kept", ("Pop",), ("Pop",)), "Pop  kept"),
        (SongResult(Path("a"), "kept", ("Pop",), ("Pop",), JAZZ, "why"), "Pop  kept (predicted Jazz 0.91): why"),
        (SongResult(Path("a"), "tagged", (), ("Jazz",), JAZZ, "why \x1b[2J"), "– → Jazz (0.91): why \\x1b[2J"),
        (SongResult(Path("a"), "unsure", decision=unsure("silent"), reason="silent"), "unsure: silent"),
        (
            SongResult(Path("a"), "unsure", decision=replace(JAZZ, genres=()), reason="Jazz 0.91 is below 0.95"),
            "unsure: Jazz 0.91 is below 0.95; then Blues 0.05",
        ),
        (SongResult(Path("a"), "failed", reason="bad \x1b[2J"), "failed: bad \\x1b[2J"),
        (SongResult(Path("a"), "kept", ("\x1b[31mred",), ("\x1b[31mred",)), "\\x1b[31mred  kept"),
    ],
)
def test_outcomes_read_as_sentences(result: SongResult, line: str) -> None:
    assert outcome(result) == line


def test_verbose_names_the_three_best_genres() -> None:
    result = SongResult(Path("a"), "tagged", (), ("Jazz",), JAZZ)
    assert outcome(result, verbose=True) == "– → Jazz (Jazz 0.91, Blues 0.05, Rock 0.03)"


def shown(results: list[SongResult], capsys: pytest.CaptureFixture[str], **options: bool | str) -> tuple[str, str, str]:
    found = [Found(result.path) for result in results]
    chosen = {"rows": True, "progress": True, "verbose": False, "write_tags": False, **options}
    with Screen(found, **chosen) as screen:  # type: ignore[arg-type]
        for result in results:
            screen.show(result)
    captured = capsys.readouterr()
    return captured.out, captured.err, screen.summary()


RESULTS = [
    SongResult(Path("/m/one.mp3"), "tagged", (), ("Jazz",), JAZZ),
    SongResult(Path("/m/sub/two\n.mp3"), "failed", reason="empty file"),
    SongResult(Path("/m/three.mp3"), "unsure", decision=unsure("silent"), reason="silent"),
]


def test_rows_go_to_stdout_with_names_below_the_common_folder(capsys: pytest.CaptureFixture[str]) -> None:
    out, err, _ = shown(RESULTS, capsys)
    assert out.splitlines() == [
        "one.mp3        – → Jazz (0.91)",
        f"sub{os.sep}two\\n.mp3  failed: empty file",
        "three.mp3      unsure: silent",
    ]
    assert err == ""


def many(n_songs: int) -> list[SongResult]:
    """Songs of every status in turn."""
    made = []
    for number in range(n_songs):
        status = ("tagged", "kept", "unchanged", "unsure", "skipped", "failed")[number % 6]
        decision = JAZZ if status in ("tagged", "kept") else None
        made.append(
            SongResult(Path(f"/m/{number:03}.mp3"), status, decision=decision, reason=f"why {status} ({number // 6})")
        )
    return made


def listed(out: str) -> set[str]:
    """The statuses of the songs that are listed."""
    return {many(60)[int(line[:3])].status for line in out.splitlines()}


def test_of_many_songs_those_that_stay_as_they_are_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out, _, summary = shown(many(60), capsys)
    assert listed(out) == {"tagged", "unsure", "failed"} and len(out.splitlines()) == 30
    assert "Not listed: 30 that stay as they are. --show all lists them." in summary
    out, _, summary = shown(many(48), capsys)
    assert len(out.splitlines()) == 48 and "Not listed" not in summary
    out, _, summary = shown(many(60), capsys, verbose=True)
    assert len(out.splitlines()) == 60 and "Not listed" not in summary


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        ("all", {"tagged", "kept", "unchanged", "unsure", "skipped", "failed"}),
        ("changes", {"tagged"}),
        ("unsure", {"unsure"}),
        ("failed", {"failed"}),
        ("kept", {"kept", "unchanged", "skipped"}),
    ],
)
def test_what_is_listed_can_be_chosen(capsys: pytest.CaptureFixture[str], show: str, expected: set[str]) -> None:
    for n_songs in (12, 60):
        out, err, summary = shown(many(n_songs), capsys, show=show)
        assert listed(out) == expected and "Not listed" not in summary
        assert ("why failed" in err) == ("failed" not in expected)  # a failure is always told


def test_failures_are_told_again_behind_a_long_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert "failed: /m" not in shown(many(48), capsys)[2]
    lines = shown(many(120), capsys)[2].splitlines()
    assert lines[0] == f"failed: {Path('/m/005.mp3')}: why failed (0)"
    assert sum(line.startswith("failed: ") for line in lines) == 10 and "and 10 more that failed" in lines[10]


def test_of_songs_that_fail_alike_a_few_are_named_and_the_others_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Also without rows; whoever asks for them gets them all, and so does a list that is short."""
    results = [SongResult(Path(f"/m/{number}.mp3"), "failed", reason="empty file") for number in range(1000)]
    results.insert(500, SongResult(Path("/m/other.mp3"), "failed", reason="no audio"))
    for rows in (True, False):
        out, err, summary = shown(results, capsys, rows=rows)
        lines = (out + err).splitlines()
        assert sum("empty file" in line for line in lines) == 3
        assert sum("no audio" in line for line in lines) == 1
        assert "failed: 997 more of the same: empty file (-v names them)" in summary
        assert "no audio (-v" not in summary
        assert "1001 failed" in summary
    for options in ({"verbose": True}, {"show": "failed"}):
        out, _, summary = shown(results, capsys, **options)  # type: ignore[arg-type]
        assert sum("empty file" in line for line in out.splitlines()) == 1000
        assert "more of the same" not in summary
    assert "more of the same" not in shown(results[:20], capsys)[2]


def test_looking_for_songs_is_shown_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.terminal.screen._SILENT_WALK_SECONDS", 0.0)
    found = [Found(Path(f"{number}.mp3")) for number in range(30)]

    def slow() -> Iterator[Found]:
        for each in found:
            time.sleep(0.01)
            yield each

    for shown, stream in [(True, Terminal()), (False, Terminal()), (True, io.StringIO())]:
        monkeypatch.setattr("sys.stderr", stream)
        assert list(counting(slow(), shown)) == found
        is_terminal = isinstance(stream, Terminal)
        assert ("Looking for songs: " in stream.getvalue()) == (shown and is_terminal)


def test_a_long_name_is_cut_in_front() -> None:
    assert cut_in_front("Artist/Album/Song.mp3", 100) == "Artist/Album/Song.mp3"
    assert cut_in_front("日本/日本.mp3", 9) == "…日本.mp3"
    assert cut_in_front("日本/日本.mp3", 8) == "…本.mp3"


def test_advice_stands_behind_what_is_unsure(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen([], rows=True, progress=False, verbose=False, write_tags=False) as screen:
        assert screen.summary("", "Do this.").endswith("\nDo this.")


def test_a_summary_is_folded_at_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert folded("word " * 20) == "word " * 20
    monkeypatch.setattr("sys.stderr", Terminal())
    lines = folded("word " * 20).splitlines()
    assert all(len(line) <= 30 for line in lines) and lines[1].startswith("  word") and len(lines) > 3
    assert folded("  Jazz      1 " + "█" * 40) == "  Jazz      1 " + "█" * 40


def test_without_rows_failures_still_reach_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    out, err, _ = shown(RESULTS, capsys, rows=False)
    assert out == ""
    assert err.strip() == f"{Path('/m/sub/two')}\\n.mp3: empty file"


def test_summary_counts_every_status_and_says_that_nothing_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    summary = shown(RESULTS, capsys)[2]
    assert "Jazz      1 █" in summary
    assert "3 songs: 1 would be tagged, 0 unchanged, 0 kept, 1 unsure, 0 skipped, 1 failed;" in summary
    assert summary.endswith("Add --write-tags to write these genres into the files.")
    assert "1 tagged," in shown(RESULTS, capsys, write_tags=True)[2]


def test_summary_tells_how_many_were_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cached" not in shown(RESULTS, capsys)[2]
    known = [replace(result, cached=True) for result in RESULTS]
    out, err, summary = shown(known, capsys)
    assert "1 failed; 3 cached, 1 of them failed (-v lists them); " in summary
    assert "two" not in out + err and "one.mp3" in out
    assert "two" not in shown(known, capsys, rows=False)[1]
    assert "two" in shown(known, capsys, verbose=True)[0]
    assert "two" in shown(known, capsys, verbose=True, rows=False)[1]


def test_long_and_wide_names_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("日本.mp3", "abcdefgh.mp3", "x" * 99)
    results = [SongResult(Path(f"/m/{name}"), "kept", ("A",), ("A",)) for name in names]
    out = shown(results, capsys)[0].splitlines()
    assert out[0].startswith("日本.mp3" + " " * 52) and out[1].startswith("abcdefgh.mp3" + " " * 48)
    assert out[2].startswith("x" * 99 + "  A")  # a pipe has room for the whole name


def test_on_a_terminal_songs_of_a_long_list_stand_below_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe keeps whole names, to be searched; and so does a short list."""
    folders = ["", "Abbey Road", "Abbey Road/CD2", "Zebra"]
    results = [
        SongResult(Path("/m", folder, f"{number:02}.mp3"), "unsure", reason="why")
        for folder in folders
        for number in range(15)
    ]
    for stream, chosen, expected in (
        (Terminal(), results, [15, 15, 15, 15]),
        (Terminal(), results[15:20] + results[45:50], [0, 0]),
        (io.StringIO(), results, [0] * 4),
    ):
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("COLUMNS", "60")
        with Screen(
            [Found(each.path) for each in chosen], rows=True, progress=False, verbose=False, write_tags=False
        ) as s:
            for each in chosen:
                s.show(each)
        plain = re.sub(r"\x1b\[\d*m", "", stream.getvalue()).splitlines()
        headings = [line for line in plain if line.endswith(os.sep)]
        assert headings == ([f"{Path(folder)}{os.sep}" for folder in folders[1:]] if sum(expected) else [])
        rows = [line for line in plain if line not in headings]
        assert len(rows) == len(chosen)
        if sum(expected):
            assert rows[0].startswith("00.mp3 ") and rows[-1].startswith("  14.mp3 ")
        else:
            assert rows[-1].startswith(("Zebra/", str(Path("Zebra", ""))))


def test_songs_without_a_common_folder_keep_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    results = [SongResult(Path("/a/x.mp3"), "kept", ("A",), ("A",)), SongResult(Path("y.mp3"), "kept", ("A",), ("A",))]
    assert shown(results, capsys)[0].splitlines()[0].startswith("/a/x.mp3")


def test_plain_progress_is_lines_of_songs_not_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr("tagger.terminal.screen.time.monotonic", lambda: float(next(clock)))
    err = shown(RESULTS * 3, capsys, rows=False)[1]
    lines = [line for line in err.splitlines() if "songs/s" in line]
    assert lines and lines[-1].split(" songs, ")[0].endswith("/9")
    assert "left" in lines[0] and "failed" in lines[-1] and "unsure" in lines[-1]


def test_the_time_that_is_left_is_told_by_the_songs_of_late(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("tagger.terminal.screen.time.monotonic", lambda: now)
    songs = [replace(RESULTS[0], path=Path(f"/m/{number}.mp3"), cached=number < 9000) for number in range(9100)]
    with Screen([Found(song.path) for song in songs], rows=False, progress=True, verbose=False, write_tags=False) as s:
        for song in songs:
            now += 0.0001 if song.cached else 1.0
            s.show(song)
    lines = [line for line in capsys.readouterr().err.splitlines() if "songs/s" in line]
    assert len(lines) == 10
    assert lines[1] == "9012/9100 songs, 1.0 songs/s, 0:01:28 left"


def test_an_undoing_is_summed_up_by_what_became_of_its_songs() -> None:
    counts = Counter(bytes=3, conflict=1, missing=2, tags=1)
    line = "7 songs: 3 every byte as before, 1 genre as before, 1 conflict, 2 missing; 4 s"
    assert undone_summary(counts, 4.2, dry_run=False) == line
    assert undone_summary(Counter(nothing=1), 0.1, dry_run=False) == "1 song: 1 is as before already; 0 s"


def test_the_bar_moves_with_every_song_that_is_slow_after_many_that_were_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, now = Terminal(), 0.0
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    songs = [replace(RESULTS[0], path=Path(f"/m/{number}.mp3")) for number in range(3010)]
    with Screen([Found(song.path) for song in songs], rows=False, progress=True, verbose=False, write_tags=False) as s:
        for number, song in enumerate(songs):
            now += 0.0001 if number < 3000 else 5.0
            s.show(song)
            if number >= 3000:
                assert f" {number + 1}/3010 " in terminal.getvalue()


def test_what_is_told_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen([], rows=False, progress=False, verbose=False, write_tags=False) as screen:
        screen.tell("the cache /a\x1b[31m/x is damaged")
    assert capsys.readouterr().err == "the cache /a\\x1b[31m/x is damaged\n"


def contents(*predictions: MethodUse) -> Contents:
    return Contents(Path("/s/cache\x1b.sqlite3"), 24_123_456, 12, 11, 1, predictions)


def test_the_contents_of_a_cache_are_a_line_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    method = Method("0123456789abcdef", "bf16", None, 160_000, name="my\x1b[31mmodel")
    print_contents(contents(MethodUse(method, 11, "2030-01-31")))
    out = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert out[0] == "/s/cache\\x1b.sqlite3: 24.1 MB, 12 files, 11 songs, 1 that could not be decoded"
    assert out[1].split() == ["model", "precision", "snippets", "songs", "last", "used"]
    assert out[2].split() == ["my\\x1b[31mmodel@01234567", "bf16", "all", "11", "2030-01-31"]
    print_contents(contents())
    assert len(capsys.readouterr().out.splitlines()) == 1
