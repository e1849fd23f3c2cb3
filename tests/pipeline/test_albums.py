"""Which songs are one album, and that they get one decision."""

from pathlib import Path

import pytest

from tagger.errors import TagError
from tagger.pipeline.albums import album_folder, albums
from tagger.tags.genre import Metadata

ANN = {"artist": "Ann", "album_artist": "Ann"}


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/m/Ann/Rocks/1.mp3", "/m/Ann/Rocks"),
        ("/m/Ann/Rocks/CD1/1.mp3", "/m/Ann/Rocks"),
        ("/m/Ann/Rocks/Disc 2 (live)/1.mp3", "/m/Ann/Rocks"),
        ("/m/Ann/Discography/1.mp3", "/m/Ann/Discography"),
    ],
)
def test_the_folders_of_discs_are_one_album(path: str, folder: str) -> None:
    assert Path(album_folder(path)) == Path(folder)


def grouped(*tags: Metadata | None) -> list[list[int]]:
    """Albums among songs with these tags; None: they cannot be read."""

    def read(path: str) -> Metadata:
        found = tags[int(Path(path).stem)]
        if found is None:
            raise TagError(path, "damaged")
        return found

    return albums([f"/m/{number}.mp3" for number in range(len(tags))], read)


def test_an_album_has_one_title_and_one_artist() -> None:
    rocks, hops = Metadata(**ANN, album="Rocks"), Metadata(artist="Bob", album="Hops")
    assert grouped(rocks, hops, Metadata(**ANN, album="ROCKS "), hops, None) == [[0, 2], [1, 3]]
    assert grouped(rocks, Metadata(**ANN, album="Rocks II")) == []


def test_guests_do_not_make_a_compilation() -> None:
    guest = Metadata(artist="Ann feat. Bob", album_artist="Ann", album="Rocks")
    assert grouped(Metadata(**ANN, album="Rocks"), guest) == [[0, 1]]


def test_songs_without_a_title_belong_to_their_folder() -> None:
    assert grouped(Metadata(), Metadata()) == [[0, 1]]
    assert grouped(Metadata(artist="Ann"), Metadata(artist="Bob")) == []  # a heap of singles


@pytest.mark.parametrize("various", ["Various Artists", "VA", ""])
def test_compilations_are_no_albums(various: str) -> None:
    songs = [Metadata(artist=name, album_artist=various, album="Hits") for name in ("Ann", "Bob", "Cy")]
    assert grouped(*songs) == []
