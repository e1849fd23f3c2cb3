"""What the teachers' answers become, with teachers that are made up."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tagger.errors import AudioError
from training.dataset.soft_labels import read_soft_labels
from training.starter import labels
from training.starter.corpus import NO_MUSIC
from training.starter.labels import GENRES, Judge, Song, ask_teachers, read_songs
from training.teachers.musicnn import TAGS
from training.teachers.teachers import Answers

NAMES = list(GENRES)
CLASSES = [name.strip() for named, _ in GENRES.values() for name in named.split(",")] + ["Whale vocalization"]
SEED = 5


def answers(rng: np.random.Generator, n_snippets: int = 3, loud: str = "") -> Answers:
    """Random answers; those to `loud`, a class or tag, stand out."""
    yamnet = rng.normal(-8, 3, (n_snippets, len(CLASSES)))
    musicnn = rng.normal(-3, 1, (n_snippets, len(TAGS)))
    if loud in CLASSES:
        yamnet[:, CLASSES.index(loud)] = 30
    if loud in TAGS:
        musicnn[:, TAGS.index(loud)] = 15
    return Answers(10.0 * np.arange(n_snippets), yamnet, np.zeros((n_snippets, 4)), musicnn, np.zeros((n_snippets, 2)))


def song(genre: str = "", path: str = "a.ogg") -> Song:
    return Song(Path(path), genre, "", "", "train")


@pytest.fixture
def judge() -> Judge:
    rng = np.random.default_rng(SEED)
    return Judge(CLASSES, [answers(rng) for _ in range(100)])


@pytest.mark.parametrize(
    ("loud", "genre"),
    [("Techno", "Electronic"), ("Ska", "Reggae"), ("Opera", "Classical"), ("heavy metal", "Metal"), ("rnb", "Soul")],
)
def test_a_class_that_stands_out_names_the_genre(loud: str, genre: str, judge: Judge) -> None:
    probabilities = judge.genres(song(), answers(np.random.default_rng(1), loud=loud))
    assert probabilities.shape == (3, len(GENRES))
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert {NAMES[i] for i in probabilities.argmax(axis=1)} == {genre}


def test_a_class_that_is_always_high_names_nothing() -> None:
    def named(louder: float) -> list[str]:
        rng = np.random.default_rng(SEED)
        corpus = [answers(rng) for _ in range(50)]
        for each in corpus:
            each.yamnet[:, CLASSES.index("Techno")] += louder
        judge = Judge(CLASSES, corpus)
        return [NAMES[judge.genres(song(), each).mean(axis=0).argmax()] for each in corpus]

    assert named(50) == named(0)


def test_what_a_person_said_outweighs_the_teachers(judge: Judge) -> None:
    said = judge.genres(song("Blues"), answers(np.random.default_rng(1), loud="Techno"))
    blues, electronic = NAMES.index("Blues"), NAMES.index("Electronic")
    assert (said[:, blues] > 0.8 - 1e-9).all()
    assert (said[:, electronic] > 0.05).all()
    assert np.allclose(said.sum(axis=1), 1)


def test_what_is_no_music_is_of_every_genre_alike(judge: Judge) -> None:
    said = judge.genres(song(NO_MUSIC), answers(np.random.default_rng(1), loud="Techno"))
    assert np.allclose(said, 1 / len(GENRES))


def test_a_snippet_is_told_with_its_song_in_mind(judge: Judge) -> None:
    mixed = answers(np.random.default_rng(1), n_snippets=2)
    mixed.yamnet[0, CLASSES.index("Techno")] = 30
    alone = answers(np.random.default_rng(1), n_snippets=2)
    electronic = NAMES.index("Electronic")
    assert judge.genres(song(), mixed)[1, electronic] > judge.genres(song(), alone)[1, electronic]


def test_every_class_and_tag_is_known_to_the_teachers() -> None:
    for _, tags in GENRES.values():
        assert {tag.strip() for tag in tags.split(",") if tag} <= set(TAGS)


class MadeUp:
    """Teachers who classify techno in one song, ska in another, and cannot decode noise.ogg."""

    n_asked = 0

    def __init__(self, folder: Path) -> None:
        self.rng = np.random.default_rng(SEED)

    def ask(self, path: Path, n_snippets: int, snippet_samples: int) -> Answers:
        MadeUp.n_asked += 1
        assert (n_snippets, snippet_samples) == (2, 80_000)
        if path.name == "noise.ogg":
            raise AudioError(path, "silent")
        return answers(self.rng, n_snippets, {"one.ogg": "Techno", "two.ogg": "Ska"}.get(path.name, ""))


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    paths = [tmp_path / "one.ogg", tmp_path / "noise.ogg"]
    for path in paths:
        path.write_bytes(path.name.encode())
    songs, MadeUp.n_asked = [song(path=str(path)) for path in paths], 0
    first = list(ask_teachers(songs, MadeUp(tmp_path), tmp_path / "answers", 2, 80_000))
    again = list(ask_teachers(songs, MadeUp(tmp_path), tmp_path / "answers", 2, 80_000))
    assert MadeUp.n_asked == 3  # what failed is tried again
    assert isinstance(first[1][1], AudioError)
    assert isinstance(first[0][1], Answers)
    assert np.array_equal(first[0][1].yamnet, again[0][1].yamnet)


def test_the_command_writes_what_training_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [f"{number}.ogg" for number in range(20)]
    for name in ("one.ogg", "two.ogg", "noise.ogg", "rain.ogg", *others):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "songs.csv").write_text(
        "path,genre,artist,source,split\none.ogg,,Ann,debian:x,train\ntwo.ogg,Folk,,debian:y,test\nnoise.ogg,,,,train\n"
        f"rain.ogg,{NO_MUSIC},,,test\n" + "".join(f"{name},,,,train\n" for name in others),
        encoding="utf-8",
    )
    (tmp_path / "yamnet_class_map.csv").write_text(
        "index,mid,display_name\n" + "".join(f"{i},/m/{i},{name}\n" for i, name in enumerate(CLASSES)), encoding="utf-8"
    )
    monkeypatch.setattr(labels, "Teachers", MadeUp)
    out = tmp_path / "out"
    arguments = [tmp_path / "songs.csv", "--teachers", tmp_path, "--out", out, "--snippets", 2, "--snippet-seconds", 5]
    done = CliRunner().invoke(labels.labels, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert "noise.ogg: silent" in done.stderr
    with (out / "songs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert "rain.ogg" not in {Path(row["path"]).name for row in rows}  # it has no genre to be judged by
    rows = rows[:2]
    assert [(Path(row["path"]).name, row["genre"], row["album"], row["split"]) for row in rows] == [
        ("one.ogg", "Electronic", "", "train"),
        ("two.ogg", "Folk", "debian:y", "test"),
    ]
    soft = read_soft_labels(out / "soft_labels.parquet", NAMES)
    rows = soft.nearest([str(tmp_path / "one.ogg"), str(tmp_path / "two.ogg"), "other"], [9.0, 0.0, 0.0])
    assert rows.tolist() == [1, 2, -1]
    assert [NAMES[i] for i in soft.genres[rows[:2]].argmax(axis=1)] == ["Electronic", "Folk"]
    assert soft.classes.shape == (2 * 22, len(CLASSES) + len(TAGS))


def test_songs_of_several_tables_lie_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "songs.csv").write_text("path,genre,artist,album\nx.ogg,Jazz,Ann,First\n", encoding="utf-8")
    (tmp_path / "songs.csv").write_text("path,genre,source,split\ny.ogg,,debian:x,validate\n", encoding="utf-8")
    assert list(read_songs([tmp_path / "a" / "songs.csv", tmp_path / "songs.csv"])) == [
        Song(tmp_path / "a" / "x.ogg", "Jazz", "Ann", "First", "train"),
        Song(tmp_path / "y.ogg", "", "", "debian:x", "validate", "debian:x"),
    ]
