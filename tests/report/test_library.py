"""A report on a library: every number against songs counted by hand, and the command over real files."""

# ruff: noqa: F811  (fixtures are imported by name)

import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.audio.workers import Failure
from tagger.errors import TagError
from tagger.evaluation.learned import Contradiction
from tagger.evaluation.provenance import Provenance
from tagger.models.head import GenreHead
from tagger.pipeline.aggregate import Decision, unsure
from tagger.pipeline.predict import Prediction
from tagger.pipeline.run import SongResult
from tagger.report.audit import Vocabulary, mixed_albums
from tagger.report.document import Matrix, Report, Songs, Table, report_csv, report_json
from tagger.report.html import render
from tagger.report.library import STATUSES, all_songs, disagreements, report_library, wrong_tags
from tagger.report.playlists import write_playlists
from tagger.report.text import print_report
from tagger.tags import genre as tags
from tagger.tags.genre import Metadata
from tagger.tags.undo import Written
from tests.cli.test_tag import Run, genre_tag  # noqa: F401
from tests.support.fakes import FakeModel, make_options, make_tone
from tests.support.reports import HOSTILE

MODEL = ("Electronic", "Hip-Hop", "Jazz", "Rock")


def song(name: str, old: str, prediction: str, confidence: float = 0.9, is_sure: bool = True) -> SongResult:
    """A song with the genres `old` ("; " between them) that is classified as `prediction` ("": it failed)."""
    genres = tuple(filter(None, old.split("; ")))
    path = Path("/music") / name
    if not prediction:
        return SongResult(path, "failed", genres, genres, reason="not audio", cached=True)
    best = tuple(prediction.split("; "))
    ranking = (*((genre, confidence) for genre in best), ("Polka", 0.01))
    decision = Decision(best if is_sure else (), ranking, "" if is_sure else f"{best[0]} is below 0.95")
    return SongResult(path, "kept" if genres else "tagged", genres, genres or best, decision, cached=True)


#: Small enough to be counted by hand.
SONGS = [
    song("CD1/1.mp3", "Rock", "Rock", 0.80),
    song("CD1/2.mp3", "Hard Rock", "Rock", 0.70),
    song("CD1/3.mp3", "rock", "Jazz", 0.65),
    song("b/1.mp3", "Hip-Hop", "Hip-Hop", 0.99),
    song("b/2.mp3", "hip hop", "Hip-Hop", 0.98),
    song("b/3.mp3", "HipHop", "Electronic", 0.60),
    song("b/4.mp3", "Rap", "Hip-Hop", 0.50, is_sure=False),
    song("c/1.mp3", "Hip-Hop", "Jazz", 0.95),
    song("c/2.mp3", "Oldies", "Rock", 0.90),  # nobody knows what that is
    song("c/3.mp3", "Oldies; Jazz", "Electronic", 0.85),
    song("c/4.mp3", "Reggae", "Hip-Hop", 0.75),  # known, but not to this model
    song("CD2/1.mp3", "", "Jazz", 0.70),
    song("CD2/2.mp3", "", "Rock", 0.40, is_sure=False),
    song("CD2/3.mp3", "Rock", "Jazz", 0.45, is_sure=False),
    song("CD2/4.mp3", "Metal", ""),
]
#: Album and artists by folder; CD1 and CD2 are discs of one album, and the songs of c by several artists.
ALBUMS = {
    "CD1": Metadata(album="Rocks", album_artist="Ann", artist="Ann"),
    "b": Metadata(album="Hops", artist="Bob"),
    "c": Metadata(album="Hits", album_artist="Various Artists", artist="Cy"),
    "CD2": Metadata(album="Rocks", album_artist="ANN ", artist="Ann feat. Bob"),
}


def read(path: str) -> Metadata:
    folder, name = Path(path).parts[-2:]
    if folder not in ALBUMS:
        raise TagError(path, "gone")
    artist = f"Cy {name[0]}" if folder == "c" else ALBUMS[folder].artist
    return Metadata(album=ALBUMS[folder].album, album_artist=ALBUMS[folder].album_artist, artist=artist)


HEAD = GenreHead(MODEL, "softmax", threshold_reason="it is only a fake")


def report(
    results: Sequence[SongResult] = SONGS, genres: tuple[str, ...] = MODEL, names: Mapping[str, str] | None = None
) -> Report:
    head = replace(HEAD, genres=genres)
    return report_library(["/music"], results, FakeModel(head=head), make_options(names=names or {}), read)  # type: ignore[arg-type]


def test_what_this_program_wrote_is_not_compared() -> None:
    ours = [SONGS[at] for at in range(len(SONGS)) if str(SONGS[at].path).endswith(("b/3.mp3", "c/1.mp3", "b/4.mp3"))]
    assert len(ours) == 3
    wrote = Provenance.of(Written(str(each.path), (), each.old) for each in ours)
    options = make_options(names={})
    found = report_library(["/music"], SONGS, FakeModel(head=HEAD), options, read, wrote)  # type: ignore[arg-type]
    before = report()
    facts, facts_before = dict(found.facts), dict(before.facts)
    assert facts["written"] == "3 songs with a genre that genre-tag wrote: not compared"
    assert "written" not in facts_before and facts["agreement"] != facts_before["agreement"]
    statuses = {song.path.removeprefix("/music/"): song.status for song in all_songs(found)}
    assert (statuses["b/3.mp3"], statuses["c/1.mp3"], statuses["b/4.mp3"]) == ("written", "written", "unsure")
    assert "c/1.mp3" in names(before, "disagreements") and "c/1.mp3" not in names(found, "disagreements")
    assert "c/1.mp3" not in names(found, "untagged")


def test_tags_that_seem_wrong_are_listed_as_long_as_they_stand(tmp_path: Path) -> None:
    contradicted = [
        Contradiction("/music/b/3.mp3", "Hip-Hop", (("Jazz", 0.9), ("Hip-Hop", 0.05)), 0.05),
        Contradiction("/music/c/1.mp3", "Rock", (("Jazz", 0.9),), 0.05),  # it has another tag now
        Contradiction("/music/gone.mp3", "Rock", (("Jazz", 0.9),), 0.05),
    ]
    options = make_options()
    found = report_library(["/music"], SONGS, FakeModel(head=HEAD), options, read, contradicted=contradicted)  # type: ignore[arg-type]
    (song,) = wrong_tags(found)
    assert (song.path, song.predicted, song.reason) == ("/music/b/3.mp3", ("Jazz",), "Hip-Hop got 0.05")
    assert names(found, "wrong_tags") == ["b/3.mp3"] and wrong_tags(report()) == ()
    assert not [each for each in report().sections if each.key == "wrong_tags"]
    assert "Tags that seem wrong, the surest first" in render(found)
    written = write_playlists(tmp_path, all_songs(found), wrong_tags(found))
    (playlist,) = (file for file in written.files if file.stem == "wrong tags")
    assert playlist.read_text().splitlines()[-1].endswith("music/b/3.mp3")


def test_of_several_genres_those_that_a_person_gave_are_compared() -> None:
    (both,) = (each for each in SONGS if str(each.path).endswith("c/3.mp3"))  # Oldies; Jazz
    wrote = Provenance.of([Written(str(both.path), ("Oldies",), both.old)])
    found = report_library(["/music"], SONGS, FakeModel(head=HEAD), make_options(), read, wrote)  # type: ignore[arg-type]
    (song,) = (each for each in all_songs(found) if each.path.endswith("c/3.mp3"))
    assert (song.reference, song.status) == (("Oldies",), "incomparable")


def section(found: Report, key: str) -> Table | Matrix | Songs:
    return next(each for each in found.sections if each.key == key)


def rows(found: Report, key: str) -> tuple[tuple[object, ...], ...]:
    table = section(found, key)
    assert isinstance(table, Table)
    assert all(len(row) == len(table.columns) for row in table.rows)
    return table.rows


def names(found: Report, key: str) -> list[str]:
    songs = section(found, key)
    assert isinstance(songs, Songs)
    return [song.path.removeprefix("/music/") for song in songs.songs]


def matrix(found: Report) -> dict[tuple[str, str], int]:
    confusion = section(found, "confusion")
    assert isinstance(confusion, Matrix)
    return {
        (confusion.references[row], confusion.predicted[column]): n
        for (row, column), n in np.ndenumerate(confusion.counts)
        if n
    }


def test_a_song_decided_on_less_than_was_wanted_says_so() -> None:
    prediction = Prediction(np.zeros((1, 4), np.float32), (20.0,), 70.0, "", Failure("damaged"))
    songs = [song("b/1.mp3", "", "Jazz"), song("b/2.mp3", "", "Jazz", 0.4, is_sure=False)]
    songs = [replace(each, prediction=prediction) for each in songs]
    told = {each.path[-5:]: each.reason for each in all_songs(report(songs))}
    said = "decided on 1 snippet, as the others failed: damaged"
    assert told == {"1.mp3": said, "2.mp3": f"Jazz is below 0.95; {said}"}


# ---- agreement, against counts by hand


def test_the_confusion_of_tags_and_predictions() -> None:
    assert matrix(report()) == {
        ("Rock", "Rock"): 2,  # "Rock" and "Hard Rock"
        ("Rock", "Jazz"): 2,  # "rock", and one it is unsure of
        ("Hip-Hop", "Hip-Hop"): 3,  # two spellings, and "Rap", of which it is unsure
        ("Hip-Hop", "Electronic"): 1,
        ("Hip-Hop", "Jazz"): 1,
        ("Oldies", "Rock"): 1,  # the user's own name
        ("Jazz", "Electronic"): 1,  # "Oldies; Jazz": the model knows Jazz
        ("Reggae", "Hip-Hop"): 1,
    }
    confusion = section(report(), "confusion")
    assert isinstance(confusion, Matrix)
    assert confusion.references == ("Hip-Hop", "Jazz", "Rock", "Oldies", "Reggae")  # the model's own in front
    assert confusion.predicted == ("Electronic", "Hip-Hop", "Jazz", "Rock")


def test_facts() -> None:
    facts = dict(report().facts)
    assert facts == {
        "library": "/music",
        "songs": "15: 2 without genre, 1 failed",
        "model": "fake; its confidences: softmax",
        "predicted": "11 sure enough for a genre, 3 unsure; 15 cached",
        "unsure": "it is only a fake",
        # Agree: 5 of 10 (all but Oldies, Reggae, the untagged and the failed); of 8 sure ones 4.
        "agreement": "0.500 of 10 songs with a genre the model knows; 0.500 of the 8 it is sure of",
        "not compared": "2 songs of genres the model does not know",
    }


def test_genres_one_by_one() -> None:
    assert rows(report(), "genres") == (
        # genre, tagged, agree, sure, agree of these, else predicted as, predicted in all
        ("Hip-Hop", 5, 3 / 5, 4, 2 / 4, "Electronic (1)", 3),
        ("Rock", 4, 2 / 4, 3, 2 / 3, "Jazz (2)", 3),
        ("Jazz", 1, 0.0, 1, 0.0, "Electronic (1)", 3),
        ("Oldies", 1, None, 1, None, "Rock (1)", 0),
        ("Reggae", 1, None, 1, None, "Hip-Hop (1)", 0),
        ("Electronic", 0, None, 0, None, "–", 2),
    )


def test_every_song_has_one_status() -> None:
    status = {each.path.removeprefix("/music/"): each.status for each in all_songs(report())}
    assert status == {
        "CD1/1.mp3": "agrees", "CD1/2.mp3": "agrees", "CD1/3.mp3": "differs", "b/1.mp3": "agrees", "b/2.mp3": "agrees",
        "b/3.mp3": "differs", "b/4.mp3": "unsure", "c/1.mp3": "differs", "c/2.mp3": "incomparable",
        "c/3.mp3": "differs", "c/4.mp3": "incomparable", "CD2/1.mp3": "untagged", "CD2/2.mp3": "unsure",
        "CD2/3.mp3": "unsure", "CD2/4.mp3": "failed",
    }  # fmt: skip
    assert set(status.values()) <= set(STATUSES)


def test_disagreements_are_the_most_confident_ones_it_is_sure_of() -> None:
    found = report()
    assert names(found, "disagreements") == ["c/1.mp3", "c/3.mp3", "CD1/3.mp3", "b/3.mp3"]
    assert section(found, "disagreements").note == (
        "Look here for wrong tags. 1 more where the model is unsure: see --min-confidence."
    )
    many = [song(f"CD1/{n:03}.mp3", "Rock", "Jazz", 0.99 - n / 1000) for n in range(60)]
    found = report(many[::-1])
    assert names(found, "disagreements") == [f"CD1/{n:03}.mp3" for n in range(50)]
    assert section(found, "disagreements").note == (
        "The first 50 of 60; all are among the songs below, by their status. Look here for wrong tags."
    )
    assert len(disagreements(all_songs(found))) == 60


def test_songs_without_genre_unsure_and_failed() -> None:
    found = report()
    assert names(found, "untagged") == ["CD2/1.mp3", "CD2/2.mp3"]
    assert names(found, "unsure") == ["b/4.mp3", "CD2/2.mp3", "CD2/3.mp3"]
    assert names(found, "failed") == ["CD2/4.mp3"]
    assert all_songs(found)[-1].reason == "not audio"
    assert all_songs(found)[6].reason == "Hip-Hop is below 0.95"


def test_a_song_that_cannot_be_written_or_gave_nothing_to_classify() -> None:
    linked = song("CD1/1.mp3", "", "Rock")
    linked = SongResult(linked.path, "skipped", decision=linked.decision, reason="has 2 hard links")
    silent = SongResult(Path("/music/CD1/2.mp3"), "kept", ("Rock",), ("Rock",), unsure("silent"))
    film = SongResult(Path("/music/CD1/3.mkv"), "skipped", reason="video")
    found = report([linked, silent, film])
    assert [(each.status, each.reason) for each in all_songs(found)] == [
        ("untagged", ""), ("unsure", "silent"), ("skipped", "video"),
    ]  # fmt: skip
    assert matrix(found) == {} and names(found, "failed") == ["CD1/3.mkv"]
    assert dict(found.facts)["songs"] == "3: 1 without genre, 1 skipped"
    assert dict(found.facts)["agreement"] == "no song with a genre that the model knows was classified"


def test_several_genres_agree_if_one_of_them_does() -> None:
    found = report([song("CD1/1.mp3", "Jazz; Rock", "Hip-Hop; Rock"), song("CD1/2.mp3", "Jazz; Rock", "Hip-Hop")])
    assert matrix(found) == {("Rock", "Rock"): 1, ("Jazz", "Hip-Hop"): 1}


# ---- by which names


def test_the_names_of_a_map_are_the_names_of_the_run() -> None:
    mapped = {"Hip-Hop": "Rap & Co", "Rock": "Loud", "Jazz": ""}
    found = report(
        [
            song("1.mp3", "Hip-Hop", "Rap & Co"),
            song("2.mp3", "trap", "Rap & Co"),
            song("3.mp3", "rap and co", "Loud"),
            song("4.mp3", "Indie Rock", "Loud"),
            song("5.mp3", "Jazz", "Jazz", is_sure=False),
        ],
        names=mapped,
    )
    assert matrix(found) == {
        ("Rap & Co", "Rap & Co"): 2, ("Rap & Co", "Loud"): 1, ("Loud", "Loud"): 1, ("Jazz", "Jazz"): 1,
    }  # fmt: skip


def test_a_finer_model_keeps_its_genres_apart_and_agrees_with_a_broader_tag() -> None:
    found = report(
        [song("1.mp3", "House", "Techno"), song("2.mp3", "Electronic", "Techno"), song("3.mp3", "Electronic", "Ska")],
        genres=("House", "Techno", "Ska"),
    )
    assert matrix(found) == {("House", "Techno"): 1, ("Techno", "Techno"): 1, ("Electronic", "Ska"): 1}
    assert [each.status for each in all_songs(found)] == ["differs", "agrees", "differs"]


def test_two_genres_of_one_name_are_one() -> None:
    vocabulary = Vocabulary.of(("Metal", "Rock", "Jazz"), {"Metal": "Rock"}, {})
    assert vocabulary.names == ("Rock", "Jazz")
    called = {genre: vocabulary.called(genre) for genre in ("Thrash", "metal", "rock", "bebop", "Reggae", "Oldies")}
    assert called == {
        "Thrash": "Rock", "metal": "Rock", "rock": "Rock", "bebop": "Jazz", "Reggae": "Reggae", "Oldies": "Oldies",
    }  # fmt: skip
    assert not vocabulary.meant("Reggae")  # the model has no such genre


def test_spellings_of_an_unknown_genre_are_one_row() -> None:
    found = report([song("1.mp3", "oldies!", "Rock"), song("2.mp3", "Oldies", "Jazz"), song("3.mp3", "Oldies", "Jazz")])
    assert matrix(found) == {("Oldies", "Rock"): 1, ("Oldies", "Jazz"): 2}


# ---- what is amiss with the tags, whatever is classified


def test_spellings_of_one_genre() -> None:
    assert rows(report(), "spellings") == (
        # spelling, songs, more often spelt, by songs
        ("HipHop", 1, "Hip-Hop", 2),
        ("hip hop", 1, "Hip-Hop", 2),
        ("rock", 1, "Rock", 2),
    )


def test_genres_on_one_song_only() -> None:
    assert rows(report(), "singles") == (
        ("Hard Rock", "Rock", "/music/CD1/2.mp3"),
        ("Jazz", "Jazz", "/music/c/3.mp3"),
        ("Metal", "Metal", "/music/CD2/4.mp3"),
        ("Rap", "Hip-Hop", "/music/b/4.mp3"),
        ("Reggae", "Reggae", "/music/c/4.mp3"),
    )


def test_albums_of_mixed_genres() -> None:
    assert rows(report(), "albums") == (
        # Over its two discs; the songs without a genre do not count, nor does the other letter case.
        ("Rocks", "Ann", 5, ("Rock", "Hard Rock", "Metal"), "Rock (2)"),
        # "Hip-Hop", "hip hop" and "HipHop" are one genre, Rap is not.
        ("Hops", "Bob", 4, ("Hip-Hop", "Rap"), "Hip-Hop (2)"),
        ("Hits", "Various Artists", 4, ("Oldies", "Hip-Hop", "Jazz", "Reggae"), "Jazz (1)"),  # compilations are last
    )


def test_a_genre_that_all_songs_share_makes_an_album_of_one_kind() -> None:
    one = [song("CD1/1.mp3", "Rock", "Rock"), song("CD1/2.mp3", "Pop; ROCK", "Rock"), song("CD1/3.mp3", "", "Jazz")]
    assert rows(report(one), "albums") == ()


def test_tags_are_read_only_where_an_album_may_be_mixed() -> None:
    found = []

    def note(path: str) -> Metadata:
        found.append(path)
        return read(path)

    songs = [each for each in all_songs(report()) if "/c/" not in each.path]
    songs += [replace(songs[0], path=f"/music/e/{n}.mp3") for n in range(3)]  # all Rock
    mixed_albums(songs, note)
    assert {Path(path).parent.name for path in found} == {"CD1", "CD2", "b"}


def test_a_song_whose_tags_cannot_be_read_any_more_is_on_no_album() -> None:
    assert rows(report([song("gone/1.mp3", "Rock", "Rock"), song("gone/2.mp3", "Pop", "Rock")]), "albums") == ()


# ---- bad input, through every renderer


def render_all(found: Report) -> str:
    json.loads(report_json(found))
    assert report_csv(found).count("\n") >= 1 + len({each.path for each in all_songs(found)})
    assert "</html>" in render(found)
    text = io.StringIO()
    print_report(found, text)
    return text.getvalue()


def test_nothing_found_and_nothing_known() -> None:
    text = render_all(report([]))
    assert "0: 0 without genre" in text and "No songs were found." in text
    assert matrix(report([])) == {}
    assert all(each.note.startswith(("None", "No songs")) for each in report([]).sections)


def test_only_unsure_songs() -> None:
    text = render_all(report([song(f"{n}.mp3", "", "Rock", 0.3, is_sure=False) for n in range(12)]))
    assert "0 sure enough for a genre, 12 unsure" in text and "… and 2 more" in text


def test_five_hundred_genres() -> None:
    results = [song(f"{n}.mp3", f"Genre {n % 500}", MODEL[n % 4]) for n in range(1500)]
    found = report(results)
    assert len(rows(found, "genres")) == 504
    assert "1500 songs of genres the model does not know" in render_all(found)


def test_hostile_names_come_through_every_renderer() -> None:
    results = [song(f"CD1/{n}.mp3", "; ".join((HOSTILE[n], name)), "Rock") for n, name in enumerate(HOSTILE[::-1])]
    found = report(results)
    assert len(all_songs(found)) == len(HOSTILE)
    assert "\x1b" not in render_all(found)


# ---- the command


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs that are classified as Rock and Blues; the one has the genre Pop, the other none."""
    folder = tmp_path_factory.mktemp("tones")
    make_tone(folder / "blues.flac", "Blues")
    make_tone(folder / "rock.ogg", "Rock")
    rock = folder / "rock.ogg"
    rock.write_bytes(tags.retag(rock.read_bytes(), ".ogg", ["Classical"]))
    return folder


@pytest.fixture
def music(tones: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tones, tmp_path / "music"))


def report_of(run: Run) -> dict:
    return json.loads(run.out)["sections"]


def test_a_report_on_a_library_changes_nothing_and_classifies_what_is_missing_once(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in music.iterdir()}
    first = genre_tag("report", music)
    assert first.code == 0, first.err
    assert "2: 1 without genre" in first.out and "Classical, differs: predicted Rock 0.999" in first.out

    def no_model(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", no_model)
    second = genre_tag("report", music)
    assert second.out == first.out.replace("0 cached", "2 cached")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in music.iterdir()} == before


def test_what_a_tagging_run_classified_is_not_classified_again(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = {record["path"]: record for record in genre_tag("--json", "-", music).records}
    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: pytest.fail("loaded"))
    for told in report_of(genre_tag("report", "--format", "json", music))["songs"]["songs"]:
        record = decided[told["path"]]
        assert told["predicted"][0] == record["predicted"] and round(told["confidence"], 4) == record["confidence"]


def test_options_of_tag_hold_and_so_does_the_settings_file(genre_tag: Callable[..., Run], music: Path) -> None:
    def statuses(*options: str) -> list[str]:
        songs = report_of(genre_tag("report", "--format", "json", *options, str(music)))["songs"]["songs"]
        return [each["status"] for each in songs]

    assert statuses() == ["untagged", "differs"]
    assert statuses("--min-confidence", "1") == ["unsure", "unsure"]
    assert statuses("--exclude", "*.flac") == ["differs"]
    assert statuses("--limit", "1") == ["untagged"]
    names = music.parent / "names.txt"
    names.write_text("Rock = Classical\n")
    assert statuses("--map", str(names)) == ["untagged", "agrees"]
    (music.parent / "config.toml").write_text("min-confidence = 1.0\n")
    assert statuses() == ["unsure", "unsure"]


def test_a_joined_genre_is_split_by_the_users_separator(genre_tag: Callable[..., Run], music: Path) -> None:
    rock = music / "rock.ogg"
    rock.write_bytes(tags.retag(rock.read_bytes(), ".ogg", ["Pop / Rock"]))
    (music / "blues.flac").unlink()
    told = report_of(genre_tag("report", "--format", "json", "--separator", " / ", music))
    assert told["songs"]["songs"][0]["reference"] == ["Pop", "Rock"]
    assert told["songs"]["songs"][0]["status"] == "agrees"


def test_a_failed_song_is_told_and_the_exit_code_says_so(genre_tag: Callable[..., Run], music: Path) -> None:
    (music / "broken.mp3").write_bytes(b"no music")
    run = genre_tag("report", music)
    assert run.code == 1
    assert f"{music / 'broken.mp3'}" in run.out and "1 failed" in run.out


def test_nothing_found_is_a_line_and_a_report_of_nothing(genre_tag: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = genre_tag("report", "--format", "json", tmp_path / "empty")
    assert run.code == 0 and f"No songs found in {tmp_path / 'empty'}" in run.err
    assert report_of(run)["songs"]["songs"] == []
    run = genre_tag("report", tmp_path / "nowhere")
    assert (run.code, run.out) == (2, "")
    assert run.err == f"genre-tag: {tmp_path / 'nowhere'}: no such file or folder\n"


def test_playlists_are_written_beside_the_report(genre_tag: Callable[..., Run], music: Path) -> None:
    lists = music / "lists"
    run = genre_tag("report", "--playlists", lists, music)
    assert run.code == 0 and f"Written: 5 playlists in {lists}" in run.err
    assert sorted(os.listdir(lists)) == [
        "Blues.m3u8", "Rock.m3u8", "disagree.m3u8", "failed.m3u8", "unsure.m3u8",
    ]  # fmt: skip
    assert "rock.ogg" in genre_tag(lists / "disagree.m3u8").out
    (lists / "Rock.m3u8").write_text("mine")
    run = genre_tag("report", "--playlists", lists, music)
    assert run.code == 3 and run.out  # the report is shown all the same
    assert f"genre-tag: {lists / 'Rock.m3u8'}: is no playlist as genre-tag left it" in run.err
    assert (lists / "Rock.m3u8").read_text() == "mine"
