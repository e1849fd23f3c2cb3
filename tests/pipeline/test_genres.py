"""The vocabulary that ships, and the user's map file."""

import json
from pathlib import Path

import pytest
from mutagen.id3 import TCON

from tagger.errors import SettingsError
from tagger.models.head import GenreHead, audioset_head
from tagger.pipeline.genres import canonical, check_map, genre_key, read_map

ROOT = Path(__file__).parents[2]

#: Of the genres of ID3v1 and Winamp, those that say nothing of how a song sounds, or stand for several genres.
NO_GENRE = {
    "Oldies", "Other", "Pranks", "Vocal", "Instrumental", "Sound Clip", "Noise", "Bass", "Space", "Gothic", "Dream",
    "Comedy", "Cult", "Cabaret", "Lo-Fi", "Retro", "Revival", "Avantgarde", "Chorus", "Acoustic", "Humour", "Speech",
    "Primus", "Porn Groove", "Satire", "Ballad", "Power Ballad", "Freestyle", "Duet", "Drum Solo", "A Cappella",
    "Hardcore", "Terror", "Crossover", "Abstract", "Eclectic", "Experimental", "Garage", "Lounge", "Audiobook",
    "Audio Theatre", "Podcast",
}  # fmt: skip
DISCOGS = {
    "Electronic": "Electronic", "Rock": "Rock", "Latin": "Latin", "Folk, World, & Country": "Folk",
    "Hip Hop": "Hip-Hop", "Jazz": "Jazz", "Pop": "Pop", "Funk / Soul": "Soul", "Classical": "Classical",
    "Blues": "Blues", "Reggae": "Reggae", "Stage & Screen": "Soundtrack", "Children's": "Children's",
    "Non-Music": None, "Brass & Military": None,
}  # fmt: skip


def test_audioset_table_names_20_genres_over_distinct_columns() -> None:
    head = audioset_head()
    assert len(head.genres) == len(set(head.genres)) == 20
    assert head.members is not None
    columns = [column for members in head.members for column in members]
    assert len(columns) == len(set(columns))
    assert all(0 <= column < 527 for column in columns)


def test_shipped_names_hold_no_character_that_players_split_at() -> None:
    assert [name for name in audioset_head().genres if set(name) & set(";/,|\\")] == []


def test_canonical_genres_are_their_own_names() -> None:
    for genre in audioset_head().genres:
        assert canonical(genre) == canonical(genre.upper()) == canonical(f" {genre.lower()} ") == genre


def test_aliases_belong_to_one_genre_each() -> None:
    aliases = json.loads((ROOT / "tagger" / "pipeline" / "genre_aliases.json").read_text(encoding="utf-8"))
    assert tuple(aliases) == audioset_head().genres
    keys = [genre_key(alias) for genre in aliases for alias in aliases[genre]]
    assert len(keys) == len(set(keys))
    assert not set(keys) & {genre_key(genre) for genre in aliases}
    assert [alias for genre in aliases for alias in aliases[genre] if canonical(alias) != genre] == []


def test_every_genre_of_winamp_is_known_or_known_to_be_none() -> None:
    assert {genre for genre in TCON.GENRES if canonical(genre) is None} == NO_GENRE


@pytest.mark.parametrize("genre", DISCOGS)
def test_genres_of_discogs(genre: str) -> None:
    assert canonical(genre) == DISCOGS[genre]


@pytest.mark.parametrize(
    ("spelling", "genre"),
    [
        ("hip hop", "Hip-Hop"), ("HipHop", "Hip-Hop"), ("Rap/Hip-Hop", "Hip-Hop"), ("R&B", "Soul"), ("rnb", "Soul"),
        ("drum and bass", "Electronic"), ("Drum & Bass", "Electronic"), ("drum'n'bass", "Electronic"),
        ("Rock & Roll", "Rock"), ("rock'n'roll", "Rock"), ("Musica Latina", "Latin"), ("Reggaetón", "Latin"),
        ("Grunge", "Rock"), ("Opera", "Classical"), ("Children’s Music", "Children's"), ("trip hop", "Electronic"),
    ],
)  # fmt: skip
def test_spellings_of_people_and_shops(spelling: str, genre: str) -> None:
    assert canonical(spelling) == genre


@pytest.mark.parametrize("name", ["", "?", "My Favourites", "rocks", "Rock, Pop & Jazz"])
def test_what_is_no_known_genre_is_none(name: str) -> None:
    assert canonical(name) is None


@pytest.mark.parametrize("field", ["members", "thresholds"])
def test_a_head_whose_parts_do_not_fit_is_refused(field: str) -> None:
    value = ((0,),) if field == "members" else (0.5,)
    with pytest.raises(ValueError, match=field):
        GenreHead(("A", "B"), "softmax", **{field: value})


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale"):
        GenreHead(("A",), "cosine")


def test_map_keeps_letter_case_and_spaces_inside_names(tmp_path: Path) -> None:
    path = tmp_path / "genres.map"
    path.write_text("\ufeff# mine\n\nHip-Hop = hip  hop\n Children's=\nSoul = R=B\n", encoding="utf-8")
    assert read_map(path) == {"Hip-Hop": "hip hop", "Children's": "", "Soul": "R=B"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Rock\n", "line 1: expected 'Genre = Name', found 'Rock'"),
        (b"\n= Rock\n", "line 2: expected"),
        (b"Rock = A\nRock = B\n", "line 2: 'Rock' is mapped twice"),
        (b"Rock = a\x1b[31mb\n", "line 1: a genre name cannot hold control characters"),
        (b"Rock = \xff\n", "not UTF-8 text"),
    ],
)
def test_a_map_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "genres.map"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        read_map(path)
    assert raised.value.path == path
    assert raised.value.reason.startswith(reason)


def test_a_missing_map_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_map(tmp_path / "none")


def test_a_mapped_genre_the_model_lacks_is_a_typo() -> None:
    head = GenreHead(("Rock", "Jazz"), "softmax")
    check_map(Path("m"), ["Jazz"], head)
    with pytest.raises(SettingsError, match="no genre 'Jaz'; it has: Rock, Jazz"):
        check_map(Path("m"), ["Jaz"], head)
