"""Labelled songs: genres from folders, tags and tables, and songs that are there twice."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tagger.evaluation.provenance import Provenance
from tagger.tags.undo import Written
from tests.support.songs import make_song
from training.dataset.songs import Labelled, LabelledSong, LeftOut, find_labelled, identify_songs
from training.dataset.splits import artist_key
from training.errors import DatasetError


def library(root: Path, songs: Mapping[str, Mapping[str, str]]) -> Path:
    """Short songs, each another one, with these tags."""
    for seed, (name, tags) in enumerate(songs.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make_song(root / name, 0.3, rate=16_000, channels=1, seed=seed, metadata=tags)
    return root


def genres(root: Path, **how: object) -> dict[str, str]:
    """Name of each song → its genre."""
    return {song.path.name: song.genre for song in find_labelled(root, **how).songs}  # type: ignore[arg-type]


GTZAN = {"blues/b.0.wav": {}, "blues/b.1.wav": {}, "hiphop/h.0.au": {}, "rock/r.0.wav": {}}


def test_a_folder_per_genre_keeps_the_names_of_its_folders(tmp_path: Path) -> None:
    found = find_labelled(library(tmp_path, GTZAN))
    assert [(song.path.name, song.genre) for song in found.songs] == [
        ("b.0.wav", "blues"), ("b.1.wav", "blues"), ("h.0.au", "hiphop"), ("r.0.wav", "rock"),
    ]  # fmt: skip
    assert found.reason == "by folders: 3 of 3 are named like genres"
    assert {song.folder for song in found.songs} == {""}  # the folder of a genre is nobody's
    assert not found.left_out.songs


def test_folders_below_a_genre_may_be_artists(tmp_path: Path) -> None:
    root = library(tmp_path, {"rock/Someone/a.flac": {"artist": "Someone"}, "jazz/b.flac": {}})
    rock, jazz = sorted(find_labelled(root).songs, key=lambda song: song.path.name)
    assert (rock.genre, rock.artist, rock.folder) == ("rock", "Someone", str(tmp_path / "rock" / "Someone"))
    assert (jazz.genre, jazz.artist, jazz.folder) == ("jazz", "", "")


def test_folders_with_names_of_ones_own_are_genres_where_songs_have_no_tags(tmp_path: Path) -> None:
    found = find_labelled(
        library(tmp_path, {"late night/a.flac": {}, "gym/b.flac": {}, "gym/c.flac": {"genre": "Pop"}})
    )
    assert {song.genre for song in found.songs} == {"late night", "gym"}
    assert found.reason == "by folders: only 1 of 3 songs have a genre tag"


def test_folders_of_artists_are_no_genres(tmp_path: Path) -> None:
    tags = {"genre": "hip hop", "artist": "A", "album_artist": "B", "album": "LP"}
    found = find_labelled(library(tmp_path, {"A/LP/a.flac": tags, "C/LP/b.flac": {"genre": "Hard Rock"}}))
    assert found.reason == "by their own tags: 2 of 2 folders are not named like genres"
    hiphop, rock = found.songs
    assert hiphop == LabelledSong(
        tmp_path / "A/LP/a.flac",
        "Hip-Hop",
        "A",
        "LP",
        "B",
        str(tmp_path / "A/LP"),
        seconds=pytest.approx(0.3, abs=0.01),
    )
    assert rock.genre == "Rock"


@pytest.mark.parametrize(
    ("songs", "reason"),
    [
        ({"rock/a.flac": {"genre": "Pop"}, "jazz/b.flac": {}, "c.flac": {}}, "there are songs beside the folders"),
        ({"rock/a.flac": {"genre": "Pop"}}, "there is but one folder, 'rock'"),
        ({"a.flac": {"genre": "Pop"}}, "there are no folders"),
    ],
)
def test_tags_are_read_where_folders_cannot_be_genres(tmp_path: Path, songs: dict, reason: str) -> None:
    found = find_labelled(library(tmp_path, songs))
    assert [song.genre for song in found.songs] == ["Pop"]
    assert found.reason == f"by their own tags: {reason}"


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    root = library(tmp_path, {"rock/a.flac": {"genre": "Pop"}, "jazz/b.flac": {"genre": "Pop"}, "c.flac": {}})
    assert genres(root, labels="folders") == {"a.flac": "rock", "b.flac": "jazz"}
    assert genres(root, labels="tags") == {"a.flac": "Pop", "b.flac": "Pop"}
    assert find_labelled(root, "folders").left_out.songs == {root / "c.flac": "lies in no genre's folder"}


def test_of_several_genres_the_first_that_is_known_counts(tmp_path: Path) -> None:
    from mutagen.flac import FLAC

    root = library(tmp_path, {"a.flac": {}, "b.flac": {}, "c.flac": {}})
    for name, values in (("a", ["Favourites", "hip hop", "Jazz"]), ("b", ["Favourites", "Chill-Ass"]), ("c", [])):
        tags = FLAC(root / f"{name}.flac")
        tags["genre"] = values
        tags.save()
    found = find_labelled(root)
    assert {song.path.name: song.genre for song in found.songs} == {"a.flac": "Hip-Hop"}
    assert found.left_out.unknown == {"Favourites": 1} and found.left_out.n_untagged == 1
    assert found.left_out.unlabelled() == [
        "1 songs have no genre tag.",
        "1 songs have a genre that is not known; for a --map: Favourites (1)",
    ]


def test_a_map_gives_names_and_drops_genres(tmp_path: Path) -> None:
    root = library(
        tmp_path,
        {
            "a.flac": {"genre": "Weird Stuff"},  # not known without the map
            "b.flac": {"genre": "Thrash Metal"},  # by its own name, before what it is a kind of
            "c.flac": {"genre": "metal"},
            "d.flac": {"genre": "Death Metal"},
            "e.flac": {"genre": "Jazz"},
            "f.flac": {"genre": "Blues"},
        },
    )
    names = {"weird-stuff": "Noise", "Thrash Metal": "Thrash", "Metal": "Loud", "Jazz": ""}
    found = find_labelled(root, names=names)
    by_name = {song.path.stem: song.genre for song in found.songs}
    assert by_name == {"a": "Noise", "b": "Thrash", "c": "Loud", "d": "Loud", "f": "Blues"}
    assert found.left_out.songs == {root / "e.flac": "the map drops its genre"}


def test_a_map_renames_folders_too(tmp_path: Path) -> None:
    root = library(tmp_path, GTZAN)
    found = genres(root, names={"Hip-Hop": "Rap", "blues": ""})
    assert found == {"h.0.au": "Rap", "r.0.wav": "rock"}


def test_songs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    root = library(tmp_path, {"a.flac": {"genre": "Pop"}, "b.flac": {"genre": "Pop"}})
    (root / "b.flac").write_bytes(b"no song")
    (root / "c.mkv").write_bytes(b"a film")
    assert set(genres(root)) == {"a.flac"}
    left_out = find_labelled(root).left_out.songs
    assert set(left_out) == {root / "b.flac", root / "c.mkv"} and left_out[root / "c.mkv"] == "video"


def test_excluded_folders_are_passed_over(tmp_path: Path) -> None:
    assert set(genres(library(tmp_path, GTZAN), exclude=("hip*",))) == {"b.0.wav", "b.1.wav", "r.0.wav"}


@pytest.mark.parametrize(
    ("songs", "reason"),
    [
        ({}, "no songs in it"),
        (
            {"a.flac": {}, "b.flac": {}},
            "none of its 2 songs has a genre tag that is known: .* 2 songs have no genre tag",
        ),
        ({"a.flac": {"genre": "Zzz"}}, "none of its 1 songs has a genre tag that is known: .*for a --map: Zzz \\(1\\)"),
    ],
)
def test_a_source_without_labels_is_an_error(tmp_path: Path, songs: dict, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason) as raised:
        find_labelled(library(tmp_path, songs))
    assert raised.value.path == tmp_path


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        find_labelled(tmp_path / "none")


# Tables


def table(root: Path, text: str, name: str = "songs.csv", encoding: str = "utf-8") -> Path:
    library(root, {"music/a.flac": {"artist": "Tagged", "album": "LP"}, "music/b.flac": {}, "c.flac": {"genre": "Pop"}})
    (root / name).write_text(text.replace("ROOT", str(root)), encoding=encoding)
    return root / name


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("songs.csv", 'path,genre,artist\nmusic/a.flac,My "Genre","X, Y"\nROOT/c.flac, Pop ,Z\n', "utf-8"),
        ("songs.csv", 'Genre;Path;Artist\r\nMy "Genre";music/a.flac;X, Y\r\nPop;c.flac;Z\r\n', "utf-8-sig"),
        ("songs.tsv", 'path\tartist\tgenre\nmusic/a.flac\tX, Y\tMy "Genre"\nc.flac\tZ\tPop\n', "utf-8"),
    ],
)
def test_a_table_names_paths_genres_and_artists(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    found = find_labelled(table(tmp_path, text, name, encoding))
    assert [(song.genre, song.artist) for song in found.songs] == [('My "Genre"', "X, Y"), ("Pop", "Z")]
    assert [song.path for song in found.songs] == [tmp_path / "music/a.flac", tmp_path / "c.flac"]
    assert found.songs[0].album == "LP"  # the table has no such column: the song's own tag
    assert found.songs[0].folder == str(tmp_path / "music") and found.songs[1].folder == ""


def test_a_folder_that_is_named_like_a_genre_is_nobodys(tmp_path: Path) -> None:
    root = library(tmp_path, {"jazz/a.flac": {}, "My Mix/b.flac": {}, "Someone/c.flac": {}})
    (root / "songs.csv").write_text("path,genre\njazz/a.flac,Swing\nMy Mix/b.flac,my-mix\nSomeone/c.flac,Pop\n")
    assert [song.folder for song in find_labelled(root / "songs.csv").songs] == ["", "", str(root / "Someone")]


def test_a_table_may_say_the_splits(tmp_path: Path) -> None:
    found = find_labelled(table(tmp_path, "path,genre,Split\nmusic/a.flac,Pop,test\nc.flac,Rock,train\n"))
    assert [song.split for song in found.songs] == ["test", "train"]
    assert found.reason == "by the table, which also says the splits"
    without = find_labelled(table(tmp_path, "path,genre\nmusic/a.flac,Pop\n"))
    assert without.songs[0].split == "" and without.reason == "by the table"


def test_an_empty_cell_outweighs_the_tag(tmp_path: Path) -> None:
    found = find_labelled(table(tmp_path, "path,genre,artist\nmusic/a.flac,Pop,\n"))
    assert found.songs[0].artist == ""


def test_what_the_table_says_outweighs_every_tag_and_is_said(tmp_path: Path) -> None:
    tags = {"artist": "Tagged", "album_artist": "Various", "album": "LP", "genre": "Pop"}
    library(tmp_path, {"a.flac": tags, "b.flac": tags | {"genre": "hip hop"}, "c.flac": tags, "d.flac": {}})

    def found(columns: str, *rows: str) -> Labelled:
        (tmp_path / "songs.csv").write_text("\n".join((columns, *rows)) + "\n")
        return find_labelled(tmp_path / "songs.csv")

    by_artist = found("path,genre,artist", "a.flac,Pop,X", "b.flac,Pop,X", "c.flac,Pop,Tagged", "d.flac,Pop,X")
    assert {artist_key(song) for song in by_artist.songs} == {"x", "tagged"}
    assert {(song.artist, song.album_artist, song.album) for song in by_artist.songs[:2]} == {("X", "", "LP")}
    assert by_artist.overruled == (
        f"3 songs have another artist in their tags than in the table, which counts: {tmp_path / 'a.flac'} has"
        " 'Tagged' there, and 'X' in the table.",
        f"1 song has another genre in its tags than in the table, which counts: {tmp_path / 'b.flac'} has"
        " 'hip hop' there, and 'Pop' in the table.",
    )
    both = found(
        "path,genre,artist,album_artist,album", "a.flac,My Own,tagged,Various,lp", "b.flac,Hip-Hop,TAGGED,Y,EP"
    )
    assert [(song.album_artist, song.album) for song in both.songs] == [("Various", "lp"), ("Y", "EP")]
    assert [line.partition(" in ")[0] for line in both.overruled] == [
        "1 song has another album", "1 song has another album artist", "1 song has another genre",
    ]  # fmt: skip
    assert found("path,genre", "a.flac,Pop", "d.flac,Rock").overruled == ()


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    rows = "music/a.flac,Pop\nmusic/none.flac,Pop\nc.flac\nmusic/b.flac,X\n"
    found = find_labelled(table(tmp_path, f"path,genre\n{rows}"), names={"X": ""})
    assert [song.path.name for song in found.songs] == ["a.flac"]
    assert {path.name: reason for path, reason in found.left_out.songs.items()} == {
        "none.flac": "no such file", "c.flac": "no genre", "b.flac": "the map drops its genre",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("music/a.flac,Pop\n", "begins with the names of its columns, path and genre; found: music/a.flac, pop"),
        ("", "it is empty"),
        ("path,genre\n", "no song in it"),
        ("path,genre\nnone.flac,Pop\n", "no song in it"),
        ("path,genre,split\nc.flac,Pop,train\nmusic/a.flac,Pop,\n", r"song 2 \(music/a.flac\) has the split ''"),
        ("path,genre,split\nc.flac,Pop,valid\n", "'valid': every song needs one of train, validate, test, or none"),
    ],
)
def test_a_table_that_is_none_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        find_labelled(table(tmp_path, text))


def test_a_song_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a table in UTF-8"):
        find_labelled(library(tmp_path, {"a.flac": {}}) / "a.flac")


# Who a song is


def labelled(path: Path, genre: str) -> LabelledSong:
    return LabelledSong(path, genre)


def test_a_file_that_is_there_twice_is_one_song(tmp_path: Path) -> None:
    library(tmp_path, {"a.flac": {}, "c.flac": {}})
    (tmp_path / "b.flac").write_bytes((tmp_path / "a.flac").read_bytes())
    left_out = LeftOut()
    songs = identify_songs([labelled(tmp_path / f"{name}.flac", "Pop") for name in "abca"], left_out)
    assert [song.path.name for song in songs.values()] == ["a.flac", "c.flac"]
    assert left_out.songs == {tmp_path / "b.flac": f"the same audio as {tmp_path / 'a.flac'}"}
    assert all(len(bytes.fromhex(song)) == 32 for song in songs)


def test_the_same_audio_in_two_splits_is_held_out(tmp_path: Path) -> None:
    library(tmp_path, {"a.flac": {}})
    for name in "bc":
        (tmp_path / f"{name}.flac").write_bytes((tmp_path / "a.flac").read_bytes())
    left_out = LeftOut()
    splits = {"a": "train", "b": "test", "c": "validate"}
    songs = [LabelledSong(tmp_path / f"{name}.flac", "Pop", split=split) for name, split in splits.items()]
    assert [song.path.name for song in identify_songs(songs, left_out).values()] == ["b.flac"]
    why = f"the same audio as {tmp_path / 'b.flac'}, which is in test"
    assert left_out.songs == {tmp_path / "a.flac": why, tmp_path / "c.flac": why}


def test_the_same_audio_under_two_genres_is_dropped_and_named(tmp_path: Path) -> None:
    library(tmp_path, {"a.flac": {}, "c.flac": {}})
    (tmp_path / "b.flac").write_bytes((tmp_path / "a.flac").read_bytes())
    left_out = LeftOut()
    songs = [
        labelled(tmp_path / "a.flac", "Pop"),
        labelled(tmp_path / "b.flac", "Rock"),
        labelled(tmp_path / "c.flac", "Pop"),
    ]
    assert [song.path.name for song in identify_songs(songs, left_out).values()] == ["c.flac"]
    assert left_out.songs == {
        tmp_path / "a.flac": f"'Pop' here, and 'Rock' as {tmp_path / 'b.flac'}: the same audio",
        tmp_path / "b.flac": f"'Rock' here, and 'Pop' as {tmp_path / 'a.flac'}: the same audio",
    }


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    left_out = LeftOut()
    assert identify_songs([labelled(tmp_path / "none.flac", "Pop")], left_out) == {}
    assert left_out.songs == {tmp_path / "none.flac": "No such file or directory"}


def test_a_genre_that_this_program_wrote_is_no_label(tmp_path: Path) -> None:
    root = library(tmp_path, {"a.flac": {"genre": "Rock"}, "b.flac": {"genre": "Jazz"}, "c.flac": {"genre": "Rock"}})
    writes = [Written(str(root / "a.flac"), (), ("Rock",)), Written(str(root / "b.flac"), (), ("Rock",))]
    found = find_labelled(root, provenance=Provenance.of(writes))
    assert {song.path.name for song in found.songs} == {"b.flac", "c.flac"}
    assert found.left_out.songs == {root / "a.flac": "genre-tag wrote its genre"}
    assert found.left_out.n_untagged == 0
