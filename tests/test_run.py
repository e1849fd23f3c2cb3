"""A whole run with a fake model over real files: what becomes of each song, and of its bytes."""

import os
import shutil
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tagger import tags
from tagger.genres import GenreHead
from tagger.journal import Journal, JournalError
from tagger.library import find_songs
from tagger.options import TagOptions
from tagger.run import SongResult, tag_songs
from tagger.undo import list_runs, undo
from tests.fakes import GENRES, FakeModel, make_tone


def run(
    folder: Path, model: FakeModel | None = None, write_tags: bool = False, **options: object
) -> dict[str, SongResult]:
    songs = list(find_songs([str(folder)]))
    model = model or FakeModel()
    with ExitStack() as stack:
        state = folder.parent / "state"
        journal = stack.enter_context(Journal.open(folder, state=state)) if write_tags else None
        results = list(tag_songs(songs, lambda: model, TagOptions(n_workers=1, **options), journal))  # type: ignore[arg-type]
    assert [result.path for result in results] == [found.path for found in songs]
    return {result.path.name: result for result in results}


def bytes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs that are heard as their name says, without tags."""
    folder = tmp_path_factory.mktemp("tones")
    make_tone(folder / "blues.flac", "Blues")
    make_tone(folder / "classical.mp3", "Classical")
    make_tone(folder / "rock.ogg", "Rock")
    return folder


@pytest.fixture
def library(tones: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tones, tmp_path / "library"))


def test_without_write_tags_nothing_is_changed(library: Path) -> None:
    before = bytes_of(library)
    results = run(library)
    assert {name: (r.status, r.old, r.new, r.written) for name, r in results.items()} == {
        "blues.flac": ("tagged", (), ("Blues",), False),
        "classical.mp3": ("tagged", (), ("Classical",), False),
        "rock.ogg": ("tagged", (), ("Rock",), False),
    }
    assert bytes_of(library) == before


def test_write_tags_writes_and_a_second_run_writes_nothing(library: Path) -> None:
    assert all(result.written for result in run(library, write_tags=True).values())
    assert tags.read_genres(library / "rock.ogg") == ("Rock",)
    before = bytes_of(library)
    model = FakeModel()
    assert {r.status for r in run(library, model, write_tags=True).values()} == {"kept"}
    assert model.n_heard == 0  # songs that are kept are not even heard
    assert {r.status for r in run(library, write_tags=True, existing="replace").values()} == {"unchanged"}
    assert bytes_of(library) == before


def test_a_model_is_loaded_only_when_a_song_is_to_be_heard(library: Path) -> None:
    run(library, write_tags=True)

    def no_model() -> FakeModel:
        raise AssertionError("loaded")

    with Journal.open(library, state=library.parent) as journal:
        results = list(tag_songs(list(find_songs([str(library)])), no_model, TagOptions(), journal))  # type: ignore[arg-type]
    assert [result.status for result in results] == ["kept"] * 3


@pytest.mark.parametrize(
    ("existing", "status", "new"),
    [("keep", "kept", ("Pop",)), ("append", "tagged", ("Pop", "Rock")), ("replace", "tagged", ("Rock",))],
)
@pytest.mark.parametrize("write_tags", [False, True])
def test_what_becomes_of_an_existing_genre(
    library: Path, existing: str, status: str, new: tuple[str, ...], write_tags: bool
) -> None:
    path = library / "rock.ogg"
    path.write_bytes(tags.retag(path.read_bytes(), ".ogg", ["Pop"]))
    result = run(library, existing=existing, write_tags=write_tags)["rock.ogg"]
    assert (result.status, result.old, result.new) == (status, ("Pop",), new)
    assert tags.read_genres(path) == (new if write_tags else ("Pop",))


def test_an_unsure_song_keeps_its_bytes_and_its_genre(library: Path) -> None:
    path = library / "rock.ogg"
    path.write_bytes(tags.retag(path.read_bytes(), ".ogg", ["Pop"]))
    before = bytes_of(library)
    results = run(library, FakeModel(logit=0.3), write_tags=True, existing="replace")
    assert {result.status for result in results.values()} == {"unsure"}
    assert results["rock.ogg"].new == ("Pop",)
    assert results["rock.ogg"].reason == "Rock 0.40 is below 0.50"
    assert bytes_of(library) == before


def test_one_bad_file_of_every_kind_never_stops_the_run(library: Path) -> None:
    (library / "empty.mp3").touch()
    (library / "text.flac").write_text("not music")
    (library / "page.m4a").write_text("<html></html>")
    whole = (library / "rock.ogg").read_bytes()
    (library / "cut.ogg").write_bytes(whole[: len(whole) // 3])
    os.mkfifo(library / "fifo.wav")
    (library / "film.mkv").write_bytes(b"x")
    before = {name: data for name, data in bytes_of_files(library).items() if name not in ("cut.ogg",)}
    results = run(library)
    status = {name: result.status for name, result in results.items()}
    assert status.pop("cut.ogg") in ("tagged", "failed")  # a third of a song may be enough to hear
    assert status == {
        "blues.flac": "tagged",
        "classical.mp3": "tagged",
        "rock.ogg": "tagged",
        "empty.mp3": "failed",
        "text.flac": "failed",
        "page.m4a": "failed",
        "fifo.wav": "skipped",
        "film.mkv": "skipped",
    }
    assert all(result.reason for result in results.values() if result.status in ("failed", "skipped"))
    assert {name: data for name, data in bytes_of_files(library).items() if name in before} == before


def bytes_of_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_silence_and_moments_are_unsure_not_failed(tmp_path: Path) -> None:
    from tests.songs import make_song

    make_song(tmp_path / "silence.wav", seconds=12, signal="silence")
    make_song(tmp_path / "moment.wav", seconds=0.4)
    results = run(tmp_path)
    assert {name: (r.status, r.reason) for name, r in results.items()} == {
        "silence.wav": ("unsure", "silent"),
        "moment.wav": ("unsure", "shorter than 1 s"),
    }


def test_a_linked_twice_song_is_heard_but_not_written(library: Path, tmp_path: Path) -> None:
    os.link(library / "rock.ogg", tmp_path / "seed.ogg")
    assert run(library)["rock.ogg"].status == "skipped"
    result = run(library, write_tags=True)["rock.ogg"]
    assert result.status == "skipped" and "link" in result.reason
    assert tags.read_genres(library / "rock.ogg") == ()


def test_the_users_names_are_written(library: Path) -> None:
    run(library, write_tags=True, names={"Rock": "Rock & Roll", "Blues": ""})
    assert tags.read_genres(library / "rock.ogg") == ("Rock & Roll",)
    assert tags.read_genres(library / "blues.flac") == ()


def test_several_genres_become_several_values(library: Path) -> None:
    several = GenreHead(GENRES, "sigmoid", thresholds=(0.5, 0.5, 0.5))
    run(library, FakeModel(head=several), write_tags=True, max_genres=3, min_confidence=0.5)
    assert tags.read_genres(library / "classical.mp3") == ("Classical", "Blues", "Rock")


@pytest.mark.parametrize("aggregate", ["mean", "weighted", "vote", "max"])
def test_every_aggregation_reaches_the_decision(library: Path, aggregate: str) -> None:
    result = run(library, aggregate=aggregate)["rock.ogg"]
    assert result.new == ("Rock",)
    assert result.scale == ("share of snippets" if aggregate == "vote" else "softmax")


def test_options_for_snippets_reach_the_decoder(tmp_path: Path) -> None:
    make_tone(tmp_path / "long.wav", "Rock", seconds=65)
    assert len(run(tmp_path)["long.wav"].starts_seconds) == 5
    assert len(run(tmp_path, n_snippets=2)["long.wav"].starts_seconds) == 2
    assert run(tmp_path, n_snippets=None)["long.wav"].starts_seconds == (0, 10, 20, 30, 40, 50, 55)


def test_every_write_is_recorded_and_a_run_without_writes_leaves_no_journal(library: Path) -> None:
    run(library, write_tags=True)
    run(library, write_tags=True)
    (told,) = list_runs(library.parent / "state")
    assert told.n_writes == 3
    with Journal.open(library, state=library.parent / "state") as journal:
        assert {undone.result for undone in undo(told, journal)} == {"bytes"}
    assert tags.read_genres(library / "rock.ogg") == ()


def test_a_journal_that_cannot_be_written_ends_the_run_before_the_song(library: Path) -> None:
    before = bytes_of(library)
    songs = list(find_songs([str(library)]))
    with Journal.open(library, state=library.parent) as journal:
        os.close(journal._handle)
        journal._handle = os.open(os.devnull, os.O_RDONLY)  # a disk that takes no more
        with pytest.raises(JournalError):
            list(tag_songs(songs, FakeModel, TagOptions(n_workers=1), journal))  # type: ignore[arg-type]
    assert bytes_of(library) == before


def test_the_model_is_told_how_many_decoders_run_beside_it(library: Path) -> None:
    model = FakeModel()
    run(library, model)
    assert model.n_decoders == 1


def test_a_batch_size_of_the_users_reaches_the_model(library: Path) -> None:
    model = FakeModel()
    run(library, model, batch_size=2)
    assert model.batch_size == 2


@pytest.mark.parametrize(("n_snippets", "batch_size", "ahead"), [(5, 16, 9), (1, 64, 129), (None, 16, 3)])
def test_songs_are_decoded_ahead_of_the_model_but_not_far(
    library: Path, monkeypatch: pytest.MonkeyPatch, n_snippets: int | None, batch_size: int, ahead: int
) -> None:
    asked: list[int] = []

    def decode_ahead(
        *arguments: object, look_ahead: int, **options: object
    ) -> Generator[tuple[object, None], None, None]:
        asked.append(look_ahead)
        yield from ()

    monkeypatch.setattr("tagger.run.decode_ahead", decode_ahead)
    options = TagOptions(n_workers=1, n_snippets=n_snippets, batch_size=batch_size)
    list(tag_songs(list(find_songs([str(library)])), FakeModel, options))  # type: ignore[arg-type]
    assert asked == [ahead]


@pytest.mark.parametrize("existing", ["keep", "append", "replace"])
def test_a_genre_that_somebody_sets_while_the_song_is_heard_stays(library: Path, existing: str) -> None:
    path = library / "rock.ogg"

    class Slow(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            path.write_bytes(tags.retag(path.read_bytes(), ".ogg", ["Mine"]))
            return super().logits(waveforms)

    result = run(library, Slow(), write_tags=True, existing=existing)["rock.ogg"]
    assert result.status == "skipped" and "meanwhile" in result.reason
    assert tags.read_genres(path) == ("Mine",)
