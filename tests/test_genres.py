"""The vocabulary that ships, and the user's map file."""

from pathlib import Path

import pytest

from tagger.genres import GenreHead, MapError, audioset_head, check_map, read_map


def test_audioset_table_names_20_genres_over_distinct_columns() -> None:
    head = audioset_head()
    assert len(head.genres) == len(set(head.genres)) == 20
    assert head.members is not None
    columns = [column for members in head.members for column in members]
    assert len(columns) == len(set(columns))
    assert all(0 <= column < 527 for column in columns)


def test_shipped_names_hold_no_character_that_players_split_at() -> None:
    assert [name for name in audioset_head().genres if set(name) & set(";/,|\\")] == []


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
    with pytest.raises(MapError) as raised:
        read_map(path)
    assert raised.value.path == path
    assert raised.value.reason.startswith(reason)


def test_a_missing_map_is_named(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="No such file"):
        read_map(tmp_path / "none")


def test_a_mapped_genre_the_model_lacks_is_a_typo() -> None:
    head = GenreHead(("Rock", "Jazz"), "softmax")
    check_map(Path("m"), ["Jazz"], head)
    with pytest.raises(MapError, match="no genre 'Jaz'; it has: Rock, Jazz"):
        check_map(Path("m"), ["Jaz"], head)
