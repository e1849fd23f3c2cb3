"""Fetching the starter's recordings, from packages and repositories that are made here."""

import csv
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner

from training.dataset.songs import LabelledSong
from training.dataset.splits import artist_key
from training.errors import SourceError
from training.starter import corpus
from training.starter.corpus import NO_MUSIC, Recording, fetch, read_recordings, unpack, write_recordings
from training.starter.labels import GENRES

A, B = b"first recording", b"second recording"
COPY = """import pathlib, sys
out, module = map(pathlib.Path, sys.argv[1:])
out.write_bytes(module.read_bytes() + b" rendered")"""

#: Sources and artists that are classified to judge: nothing of them, from wherever, may be learned from.
KEPT_OUT = ("wesnoth", "fretsonfire", "marsshooter", "openclonk")
PREDICTED_ELSEWHERE = (
    "Aleksi; Audionautix; Bensound; Carlos Viola Iborra; Dead Smiling Pirates; Doug Kaufman; El Senator; "
    "Forté Boss; Gianmarco Leone; Jalmaan; Jason Shaw; Jeremy Nicoll; John Harrison with the Wichita State "
    "University Chamber Players; Jonathan Coulton; Joseph G. Toscano; Joseph Toscano; Just Plain Ant; K-Pone; "
    "Martin Strohmeier; Mattias Westlund; Media Right Productions; Michael Muldoon; Muldjord; NegaRen; "
    "Obsidian Shell; Pornophonique; Rolemusic; Ryan Reilly; Sectoid; Shearer; Stephen Rozanc; Steven Dunston; "
    "Timothy Pinkham; Tommi Inkila; TunePocket; Tyler Johnson; Wesnoth Project; Zhaytee; emegeme; number one "
    "ensemble; zhaymusic"
)


def recording(data: bytes, path: str, source: str = "debian:music") -> Recording:
    return Recording(source, path, sha256(data).hexdigest(), "Ann", "One", "Folk", "tag: Folk", "CC0", "train")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What every source has in it."""
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr" / "one.ogg").write_bytes(A)
    with ZipFile(tree / "usr" / "more.pk3", "w") as archive:
        archive.writestr("music/two.MP3", B)
    (tmp_path / "secret.ogg").write_bytes(A)
    monkeypatch.setattr(corpus, "unpack", lambda source, scratch, paths: tree)
    return tree


def test_a_recording_is_kept_under_its_digest(tree: Path, tmp_path: Path) -> None:
    wanted = [recording(A, "usr/one.ogg"), recording(B, "usr/more.pk3!music/two.MP3")]
    assert [why for _, why in fetch(wanted, tmp_path / "out")] == ["", ""]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert kept == {sha256(A).hexdigest()[:16] + ".ogg": A, sha256(B).hexdigest()[:16] + ".mp3": B}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("usr/gone.ogg", "no longer there"),
        ("usr/more.pk3!gone.ogg", "no longer there"),
        ("usr/one.ogg!gone.ogg", "no longer there"),
        ("../secret.ogg", "no longer there"),
        ("usr/more.pk3", "another file now"),
    ],
)
def test_only_the_very_file_is_taken(path: str, why: str, tree: Path, tmp_path: Path) -> None:
    assert [told for _, told in fetch([recording(A, path)], tmp_path / "out")] == [why]
    assert not list((tmp_path / "out").iterdir())


def test_a_tracker_module_is_rendered(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "usr" / "tune.XM").write_bytes(A)
    monkeypatch.setattr(corpus, "RENDER", [sys.executable, "-c", COPY])
    (found,) = fetch([recording(A, "usr/tune.XM")], tmp_path / "out")
    assert found[1] == ""
    assert (tmp_path / "out" / found[0].name).read_bytes() == A + b" rendered"
    assert found[0].name.endswith(".flac")
    monkeypatch.setattr(corpus, "RENDER", ["no-such-renderer"])
    assert [why for _, why in fetch([recording(A, "usr/tune.XM")], tmp_path / "other")] == [
        "no-such-renderer is not installed"
    ]


def test_what_is_there_is_not_fetched_again(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [recording(A, "usr/one.ogg")]
    list(fetch(wanted, tmp_path / "out"))
    monkeypatch.setattr(corpus, "unpack", lambda *_: pytest.fail("fetched again"))
    assert [why for _, why in fetch(wanted, tmp_path / "out")] == [""]


def test_a_source_that_cannot_be_had_costs_its_own_recordings(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(source: str, scratch: Path, paths: list[str]) -> Path:
        if source == "github:gone/away":
            raise SourceError(source, "repository not found")
        return tree

    monkeypatch.setattr(corpus, "unpack", unpack)
    wanted = [recording(A, "usr/one.ogg"), recording(B, "two.mp3", "github:gone/away")]
    assert {each.source: why for each, why in fetch(wanted, tmp_path / "out")} == {
        "debian:music": "",
        "github:gone/away": "repository not found",
    }


def test_a_repository_is_cloned_and_its_files_checked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "a song.ogg").write_bytes(A)
    (origin / "large.bin").write_bytes(B)
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "uploadpack.allowFilter=true"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "music"]):
        subprocess.run(["git", *settings, *command], cwd=origin, check=True)
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "file://{origin}"]\n\tinsteadOf = https://github.com/ann/music.git\n', encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    (tmp_path / "scratch").mkdir()
    tree = unpack("github:ann/music", tmp_path / "scratch", ["a song.ogg"])
    assert (tree / "a song.ogg").read_bytes() == A
    assert not (tree / "large.bin").exists()
    with pytest.raises(SourceError, match="github:ann/other: "):
        unpack("github:ann/other", tmp_path / "nowhere", ["a"])


@pytest.mark.parametrize("source", ["debian:no-such-package-at-all", "ftp:somewhere"])
def test_a_source_that_is_none_is_told_in_a_line(source: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        unpack(source, tmp_path, ["a"])
    assert str(caught.value).startswith(f"{source}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="apt-get is not installed"):
        unpack("debian:music", tmp_path, ["a"])


def test_a_table_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = replace(recording(A, 'usr/a "b", c.ogg'), artist="Żółć; x", title="a\nb")
    write_recordings(tmp_path / "recordings.csv", [odd, recording(B, "usr/two.mp3")])
    monkeypatch.setattr(corpus, "files", lambda _: tmp_path)
    assert set(read_recordings()) == {odd, recording(B, "usr/two.mp3")}


def test_the_command_writes_the_table_of_songs(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [recording(A, "usr/one.ogg"), recording(B, "usr/gone.mp3"), recording(B, "usr/two.mp3", "github:a/b")]
    monkeypatch.setattr(corpus, "read_recordings", lambda: wanted)
    done = CliRunner().invoke(corpus.corpus, [str(tmp_path / "out"), "--source", "debian:music"])
    assert done.exit_code == 0, done.output
    assert "1 of 2 recordings" in done.stdout
    assert "debian:music usr/gone.mp3: no longer there" in done.stderr
    with (tmp_path / "out" / "songs.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["artist"], row["genre"]) == (wanted[0].name, "Ann", "Folk")
    assert CliRunner().invoke(corpus.corpus, [str(tmp_path / "out"), "--source", "debian:x"]).exit_code == 3


def test_the_recordings_of_the_starter_are_fit_to_learn_from() -> None:
    recordings = read_recordings()
    assert len({each.sha256 for each in recordings}) == len(recordings) > 500
    assert {each.split for each in recordings} == {"train", "validate", "test"}
    assert all(each.licence and each.source.partition(":")[0] in ("debian", "github") for each in recordings)
    assert not [each for each in recordings if any(name in each.source for name in KEPT_OUT)]
    learned = [each for each in recordings if each.split != "test"]
    assert not [each for each in learned if re.search(r"\b(none|NC|ND)\b", each.licence)]
    kept_out = re.compile(
        "|".join(rf"\b{re.escape(name)}\b" for name in PREDICTED_ELSEWHERE.split("; ")), re.IGNORECASE
    )
    assert not [each for each in learned if kept_out.search(f"{each.artist}; {each.title}; {each.path}")]


def test_no_artist_and_no_source_that_is_learned_from_judges() -> None:
    recordings = read_recordings()
    learned, judging = ([each for each in recordings if (each.split == "test") is is_test] for is_test in (False, True))
    assert not {each.source for each in learned if not each.artist} & {each.source for each in judging}
    names = [
        {artist_key(LabelledSong(Path(), each.genre, each.artist)) for each in some} - {""}
        for some in (learned, judging)
    ]
    assert not names[0] & names[1]


def test_the_recordings_that_judge_say_what_they_are() -> None:
    judging = [each for each in read_recordings() if each.split == "test"]
    assert {each.genre for each in judging} == {*GENRES, NO_MUSIC}
    assert all(each.evidence for each in judging)
    kinds = Counter(each.evidence.partition(" (")[0] for each in judging if each.genre == NO_MUSIC)
    assert set(kinds) == {"animals", "birds", "noise", "speech", "whales"}
