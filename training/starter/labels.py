"""Soft labels for the starter's songs: what two taggers that learned from real music say of each snippet.

    python -m training.starter.labels recordings/songs.csv synthesised/songs.csv --teachers FOLDER --out labels

The teachers know their classes from unlike numbers of examples, and free music is mostly of a few genres: by their
plain scores nearly everything free is electronic. So each class is measured against its own mean over the corpus, and
a genre is as likely as its most outstanding class.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from tagger.audio.decode import SAMPLE_RATE
from tagger.errors import AudioError
from tagger.pipeline.aggregate import softmax
from training.starter import NothingDoneError
from training.starter.corpus import NO_MUSIC, TABLE
from training.teachers.musicnn import TAGS
from training.teachers.teachers import YAMNET_CLASSES, Answers, Teachers

#: Genre -> the classes of YAMNet and the tags of musicnn that mean it.
GENRES: dict[str, tuple[str, str]] = {
    "Blues": ("Blues", "blues"),
    "Classical": ("Classical music, Opera, Orchestra", ""),
    "Country": ("Country, Bluegrass", "country"),
    "Disco": ("Disco", ""),
    "Electronic": (
        "Electronic music, House music, Techno, Dubstep, Drum and bass, Electronica, Electronic dance music,"
        " Ambient music, Trance music",
        "electronic, electronica, dance, electro, House",
    ),
    "Folk": ("Folk music", "folk"),
    "Hip-Hop": ("Hip hop music, Rapping", "Hip-Hop"),
    "Jazz": ("Jazz, Swing music", "jazz"),
    "Latin": ("Music of Latin America, Salsa music, Flamenco", ""),
    "Metal": ("Heavy metal", "metal, heavy metal"),
    "Pop": ("Pop music", "pop, indie pop"),
    "Punk": ("Punk rock", "punk"),
    "Reggae": ("Reggae, Ska", ""),
    "Rock": (
        "Rock music, Grunge, Progressive rock, Rock and roll, Psychedelic rock",
        "rock, alternative rock, classic rock, indie rock, hard rock",
    ),
    "Soul": ("Soul music, Rhythm and blues, Funk", "soul, rnb, funk"),
}
OF_MUSICNN = 0.3  # its weight beside YAMNet's, in genres that it has tags for
#: Of the softmax over standard deviations. On 63 recordings labelled by people their labels were likeliest at 3 to 4.
SHARPNESS = 3.0
OF_THE_SONG = 0.5  # weight of the whole song's answer in each snippet's
TRUST = 0.8  # weight of a genre that a person gave, or that a song was made to have


@dataclass(frozen=True)
class Song:
    """A row of a table of songs."""

    path: Path
    genre: str
    artist: str
    album: str
    split: str
    source: str = ""  # as in `corpus.Recording`, and so is the licence; "" where a table does not say
    licence: str = ""


def read_songs(tables: Iterable[Path]) -> Iterator[Song]:
    """The songs of tables with the columns path (beside the table) and genre, and perhaps artist, album and split.

    Where nobody knows the artist, `source` stands for the album.
    """
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                others = (
                    artist := row.get("artist") or "",
                    row.get("album") or ("" if artist else row.get("source") or ""),
                    row.get("split") or "train",
                    row.get("source") or "",
                    row.get("licence") or "",
                )
                yield Song(table.parent.absolute() / row["path"], row["genre"], *others)


def ask_teachers(
    songs: Sequence[Song], teachers: Teachers, folder: Path, n_snippets: int, snippet_samples: int
) -> Iterator[tuple[Song, Answers | AudioError]]:
    """Each song with what the teachers say of it; kept in `folder`, so that nothing is asked twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for song in songs:
        kept = folder / f"{sha256(song.path.read_bytes()).hexdigest()[:16]}.npz"
        if kept.exists():
            with np.load(kept) as arrays:
                yield song, Answers(**arrays)
            continue
        try:
            answers = teachers.ask(song.path, n_snippets, snippet_samples)
        except AudioError as error:
            yield song, error
            continue
        part = kept.with_suffix(".part.npz")
        np.savez(part, **asdict(answers))
        part.replace(kept)
        yield song, answers


class Judge:
    """Turns the teachers' answers into genres, by how far each class stands out from its mean over a corpus."""

    def __init__(self, classes: Sequence[str], corpus: Iterable[Answers]) -> None:
        """`classes`: the names of YAMNet's classes, in their order."""
        answers = list(corpus)
        self._yamnet = _Scale(np.concatenate([each.yamnet for each in answers]))
        self._musicnn = _Scale(np.concatenate([each.musicnn for each in answers]))
        self._classes = [_places(named, classes) for named, _ in GENRES.values()]
        self._tags = [_places(named, TAGS) for _, named in GENRES.values()]

    def scores(self, answers: Answers) -> np.ndarray:
        """How far each genre stands out in each snippet, in standard deviations, (n_snippets, n_genres)."""
        by_yamnet, by_musicnn = self._yamnet(answers.yamnet), self._musicnn(answers.musicnn)
        columns = []
        for classes, tags in zip(self._classes, self._tags, strict=True):
            column = by_yamnet[:, classes].max(axis=1)
            if tags:
                column = (1 - OF_MUSICNN) * column + OF_MUSICNN * by_musicnn[:, tags].max(axis=1)
            columns.append(column)
        return np.stack(columns, axis=1)

    def genres(self, song: Song, answers: Answers) -> np.ndarray:
        """Probabilities of the genres for each snippet of a song, (n_snippets, n_genres)."""
        n_genres = len(GENRES)
        if song.genre == NO_MUSIC:
            return np.full((len(answers.yamnet), n_genres), 1 / n_genres)
        scores = self.scores(answers)
        scores = (1 - OF_THE_SONG) * scores + OF_THE_SONG * scores.mean(axis=0)
        taught = softmax(SHARPNESS * scores)
        if not song.genre:
            return taught
        return (1 - TRUST) * taught + TRUST * np.eye(n_genres)[list(GENRES).index(song.genre)]


class _Scale:
    """Standardises columns by those of a corpus."""

    def __init__(self, rows: np.ndarray) -> None:
        rows = rows.astype(np.float64)
        self._mean, self._std = rows.mean(axis=0), rows.std(axis=0)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows.astype(np.float64) - self._mean) / self._std


def _places(named: str, names: Sequence[str]) -> list[int]:
    """Where names that are joined by commas stand in a list."""
    return [list(names).index(name.strip()) for name in named.split(",") if name.strip()]


def yamnet_classes(folder: Path) -> list[str]:
    """Names of YAMNet's classes, from its class map."""
    with (folder / YAMNET_CLASSES).open(encoding="utf-8", newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


def write_soft_labels(path: Path, classes: Sequence[str], labelled: Sequence[tuple[Song, Answers, np.ndarray]]) -> None:
    """A table as `genre-tag train --soft-labels` reads it: a row for each snippet, the genres, then every class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.concatenate([np.hstack([genres, each.yamnet, each.musicnn]) for _, each, genres in labelled])
    names = [*GENRES, *(f"YAMNet {name}" for name in classes), *(f"musicnn {tag}" for tag in TAGS)]
    columns = {
        "path": [str(song.path) for song, answers, _ in labelled for _ in answers.starts_seconds],
        "start_seconds": np.concatenate([answers.starts_seconds for _, answers, _ in labelled]),
        **dict(zip(names, rows.T.astype(np.float32), strict=True)),
    }
    pq.write_table(pa.table(columns), path)


@click.command()
@click.argument("tables", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--teachers", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--snippets", type=click.IntRange(min=1), default=8, show_default=True, help="Of each song, at most.")
@click.option("--snippet-seconds", type=click.IntRange(min=4), default=10, show_default=True)
def labels(tables: tuple[Path, ...], folder: Path, out: Path, snippets: int, snippet_seconds: int) -> None:
    """Let the teachers classify the songs of TABLES; write soft_labels.parquet, and songs.csv with a genre for each.

    The classes of the teachers are measured against their means over the training songs of the first table.
    Needs ai-edge-litert (pip install 'genre-tag[starter]') and a folder with the teachers' weights.
    """
    # What is no music has no genre to be judged by: it is classified in training, and then by `release` alone.
    songs = [song for song in read_songs(tables) if song.genre != NO_MUSIC or song.split == "train"]
    corpus = {song for song in read_songs(tables[:1]) if song.genre != NO_MUSIC and song.split == "train"}
    prediction: list[tuple[Song, Answers]] = []
    asked = ask_teachers(songs, Teachers(folder), out / "answers", snippets, snippet_seconds * SAMPLE_RATE)
    for song, answers in tqdm(asked, total=len(songs), unit="song", disable=None):
        if isinstance(answers, AudioError):
            click.echo(str(answers), err=True)
        else:
            prediction.append((song, answers))
    if not any(song in corpus for song, _ in prediction):
        raise NothingDoneError(f"{tables[0]}: no music to train with could be classified")
    classes = yamnet_classes(folder)
    judge = Judge(classes, (answers for song, answers in prediction if song in corpus))
    labelled = [(song, answers, judge.genres(song, answers)) for song, answers in prediction]
    write_soft_labels(out / "soft_labels.parquet", classes, labelled)
    with (out / TABLE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "genre", "artist", "album", "split"])
        for song, _, genres in labelled:
            genre = list(GENRES)[int(genres.mean(axis=0).argmax())]
            rows.writerow([song.path, genre, song.artist, song.album, song.split])
    click.echo(f"{len(prediction)} songs in {out / TABLE}")


if __name__ == "__main__":
    labels()
