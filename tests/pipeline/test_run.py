"""A whole run with a fake model over real files: what becomes of each song, and of its bytes."""

import errno
import os
import shutil
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from tagger.audio import workers
from tagger.audio.decode import Wanted
from tagger.audio.library import Found, find_songs
from tagger.audio.workers import Failure
from tagger.errors import JournalError, TagError
from tagger.models.engine import Outputs
from tagger.models.head import GenreHead
from tagger.pipeline.cache import Method, PredictionCache, Seen, cache_path
from tagger.pipeline.rounds import RoundItem
from tagger.pipeline.run import SongResult, Tagging, default_workers, tag_songs
from tagger.tags import genre as tags
from tagger.tags import swap
from tagger.tags.journal import Journal
from tagger.tags.undo import list_runs, undo
from tests.support.fakes import GENRES, FakeModel, make_options, make_tone
from tests.support.songs import make_song
from tests.support.tag_files import id3v2, text


def run(
    folder: Path,
    model: FakeModel | None = None,
    write_tags: bool = False,
    load: Callable[[], FakeModel] | None = None,
    **options: object,
) -> dict[str, SongResult]:
    """What becomes of the songs of a folder, by their names; the prediction is known to the next run."""
    songs = list(find_songs([str(folder)]))
    model = model or FakeModel()
    state = folder.parent / "state"
    with ExitStack() as stack:
        cache = stack.enter_context(PredictionCache(cache_path(state), pytest.fail))
        journal = stack.enter_context(Journal.open(folder, state=state)) if write_tags else None
        chosen = make_options(**{"n_workers": 1, **options})  # type: ignore[arg-type]
        results = list(tag_songs(songs, model, load or (lambda: model), chosen, cache, journal))  # type: ignore[arg-type]
    assert [result.path for result in results] == [found.path for found in songs]
    return {result.path.name: result for result in results}


def no_model() -> FakeModel:
    raise AssertionError("loaded")


def bytes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs that are classified as their name says, without tags."""
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
    assert model.n_classified == 0  # songs that are kept are not even classified
    assert {r.status for r in run(library, write_tags=True, existing="replace").values()} == {"unchanged"}
    assert bytes_of(library) == before


def test_a_model_is_loaded_only_when_a_song_is_to_be_classified(library: Path) -> None:
    run(library, write_tags=True)
    shutil.rmtree(library.parent / "state")
    results = run(library, write_tags=True, load=no_model)
    assert [result.status for result in results.values()] == ["kept"] * 3


def test_songs_cached_without_embeddings_are_classified_again_for_who_needs_them(library: Path) -> None:
    class Older(FakeModel):
        def outputs(self, snippets: np.ndarray) -> Outputs:
            outputs = super().outputs(snippets)
            return replace(outputs, embeddings=np.full_like(outputs.embeddings, 1e6))  # as float16 cannot hold them

    run(library, Older())
    assert {result.cached for result in run(library, load=no_model).values()} == {True}
    model = FakeModel()
    results = run(library, model, with_embeddings=True)
    assert model.n_classified == 3 and {result.cached for result in results.values()} == {False}
    for result in run(library, load=no_model, with_embeddings=True).values():
        assert result.cached and result.prediction is not None and result.prediction.embeddings is not None
        assert result.prediction.embeddings.shape == (len(result.prediction.logits), 2)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two songs that are classified as Rock and one as Blues, of one album on two discs, and a single."""
    root = tmp_path / "library"
    for name, genre in (("CD1/1", "Rock"), ("CD1/2", "Blues"), ("CD2/3", "Rock"), ("Single/4", "Blues")):
        path = root / "Rocks" / f"{name}.flac" if name.startswith("CD") else root / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_tone(path, genre)
    return root


def test_songs_of_an_album_get_one_decision(album: Path) -> None:
    alone = {name: result.new for name, result in run(album).items()}
    assert alone == {"1.flac": ("Rock",), "2.flac": ("Blues",), "3.flac": ("Rock",), "4.flac": ("Blues",)}
    together = run(album, load=no_model, by_album=True)
    assert {name: result.new for name, result in together.items()} == alone | {"2.flac": ("Rock",)}
    assert together["2.flac"].reason == "by 3 songs of its album" and together["4.flac"].reason == ""
    (confidence,) = {result.decision.confidence for name, result in together.items() if name != "4.flac"}  # type: ignore[union-attr]
    assert 0.5 < confidence < together["4.flac"].decision.confidence  # type: ignore[union-attr]


def test_an_album_is_written_as_it_is_decided(album: Path) -> None:
    write_genre = tags.retag
    first = album / "Rocks" / "CD1" / "1.flac"
    first.write_bytes(write_genre(first.read_bytes(), ".flac", ["Polka"]))
    results = run(album, write_tags=True, by_album=True, existing="replace")
    assert all(result.written for result in results.values())
    assert {tags.read_genres(path) for path in (album / "Rocks").rglob("*.flac")} == {("Rock",)}


def test_a_folder_larger_than_any_album_is_decided_in_parts(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.pipeline.run.MOST_TOGETHER", 2)
    results = run(album, by_album=True)
    assert results["1.flac"].reason.endswith("by 2 songs of its album") and results["3.flac"].reason == ""
    assert list(results) == ["1.flac", "2.flac", "3.flac", "4.flac"]


def test_a_new_last_layer_needs_no_song_classified_again(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embeddings are the loudest sample and 1: 0.05 and 0.2 are below 0.4, 0.8 is above."""
    run(library)
    layer = np.float32([[-100, 0], [0, -30], [-50, 0]]), np.float32([0, 0, 0])
    monkeypatch.setattr("tagger.pipeline.run.read_last_layer", lambda description: layer)
    learned = FakeModel(logit=7.0)
    learned.backbone = FakeModel().fingerprint
    results = run(library, learned, load=no_model)
    assert {name: result.new for name, result in results.items()} == {
        "blues.flac": ("Rock",), "classical.mp3": ("Rock",), "rock.ogg": ("Classical",),
    }  # fmt: skip
    assert all(result.cached and len(result.starts_seconds) == 1 for result in results.values())
    assert {result.new for result in run(library, load=no_model).values()} == {("Blues",), ("Classical",), ("Rock",)}


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
    assert status.pop("cut.ogg") in ("tagged", "failed")  # a third of a song may be enough to classify
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
    make_song(tmp_path / "silence.wav", seconds=12, signal="silence")
    make_song(tmp_path / "moment.wav", seconds=0.4)
    results = run(tmp_path)
    assert {name: (r.status, r.reason) for name, r in results.items()} == {
        "silence.wav": ("unsure", "silent"),
        "moment.wav": ("unsure", "shorter than 1 s"),
    }


def test_a_linked_twice_song_is_classified_but_not_written(library: Path, tmp_path: Path) -> None:
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


# --- two snippets first


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three songs of 70 s: one of one genre, one that changes in its middle, one whose second half is silent."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, halves in (("clear", (0.8, 0.8)), ("mixed", (0.8, 0.05)), ("half", (0.8, 0.0))):
        wave = np.sin(2 * np.pi * 440 * np.arange(35 * 16_000) / 16_000, dtype=np.float32)
        signal = np.concatenate([level * wave for level in halves])[None]
        make_song(folder / f"{name}.flac", rate=16_000, signal=signal)
    return folder


def test_five_snippets_are_classified_only_where_two_differ(mixed: Path) -> None:
    model = FakeModel()
    results = run(mixed, model, until_clear=True)
    assert {name: result.starts_seconds for name, result in results.items()} == {
        "clear.flac": (20, 40),
        "mixed.flac": (10, 20, 30, 40, 50),
        "half.flac": (10, 20, 30),  # of the two one is silent, so nothing agrees with it
    }
    assert model.n_classified == 2 + 5 + 3
    shutil.rmtree(mixed.parent / "state")
    full = run(mixed)
    for name in ("mixed.flac", "half.flac"):
        assert predicted_as(results)[name] == predicted_as(full)[name]
    assert results["clear.flac"].new == full["clear.flac"].new


def test_what_differs_in_confidence_only_is_classified_in_full_where_that_decides(mixed: Path) -> None:
    several = GenreHead(GENRES, "softmax", thresholds=(0.5, 0.5, 0.5))
    make_tone(mixed / "clear.flac", "Rock", seconds=70)

    class Doubting(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            rows = super().logits(waveforms)
            rows[1::2] *= 0.3  # the second of two is less sure
            return rows

    for least, n_classified in ((0.6, 2), (0.95, 5)):
        shutil.rmtree(mixed.parent / "state", ignore_errors=True)
        results = run(mixed, Doubting(head=several), until_clear=True, min_confidence=least)
        assert len(results["clear.flac"].starts_seconds) == n_classified


@pytest.mark.parametrize(("seconds", "n_classified", "n_decoded"), [(9, 1, 1), (25, 2, 2), (35, 3, 5), (45, 4, 6)])
def test_a_song_too_short_for_five_is_classified_as_without(
    tmp_path: Path, seconds: float, n_classified: int, n_decoded: int
) -> None:
    folder = tmp_path / "songs"
    folder.mkdir()
    wave = np.sin(2 * np.pi * 440 * np.arange(int(seconds * 16_000)) / 16_000, dtype=np.float32)
    wave *= np.where(np.arange(len(wave)) < 0.45 * len(wave), 0.8, 0.05).astype(np.float32)
    make_song(folder / "song.flac", rate=16_000, signal=wave[None])
    model = FakeModel()
    result = run(folder, model, until_clear=True)["song.flac"]
    assert (len(result.starts_seconds), model.n_classified) == (n_classified, n_decoded)
    shutil.rmtree(tmp_path / "state")
    assert result == run(folder)["song.flac"]


def test_two_snippets_of_before_answer_where_they_are_clear(mixed: Path) -> None:
    run(mixed, n_snippets=2)
    model = FakeModel()
    assert run(mixed, model, until_clear=True)["clear.flac"].cached
    assert model.n_classified == 5 + 3
    assert all(result.cached for result in run(mixed, load=no_model, until_clear=True).values())


def test_five_snippets_of_before_answer_always(mixed: Path) -> None:
    first = run(mixed)
    second = run(mixed, load=no_model, until_clear=True)
    assert predicted_as(second) == predicted_as(first)


@pytest.fixture
def half_damaged(tmp_path: Path) -> Path:
    """A song of 70 s that changes in its middle, and that holds NaN where the fifth of five snippets is."""
    folder = tmp_path / "half damaged"
    folder.mkdir()
    seconds = np.arange(70 * 16_000) / 16_000
    wave = (np.sin(2 * np.pi * 440 * seconds) * np.where(seconds < 35, 0.8, 0.05)).astype("<f4")
    wave[55 * 16_000] = np.nan
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + wave.nbytes, b"WAVE", b"fmt ", 16, 3, 1, 16_000, 64_000, 4, 32)
    (folder / "song.wav").write_bytes(head + struct.pack("<4sI", b"data", wave.nbytes) + wave.tobytes())
    return folder


def test_a_second_round_that_fails_leaves_the_decision_of_the_first(half_damaged: Path) -> None:
    failed = "cannot be decoded: it holds samples that are NaN or infinite"
    assert run(half_damaged)["song.wav"].reason == failed  # all five are wanted, and one cannot be had
    shutil.rmtree(half_damaged.parent / "state")
    model = FakeModel()
    result = run(half_damaged, model, until_clear=True, min_confidence=0.4)["song.wav"]
    assert model.n_classified == 2 and result.starts_seconds == (20, 40)
    two = run(half_damaged, n_snippets=2, min_confidence=0.4)["song.wav"]
    assert (result.status, result.new, result.decision) == (two.status, two.new, two.decision)
    assert result.status == "tagged" and result.reason == f"decided on 2 snippets, as the others failed: {failed}"
    unsure = run(half_damaged, until_clear=True)["song.wav"]
    assert unsure.status == "unsure" and unsure.reason.endswith(f"is below 0.50; {result.reason}")


def test_a_second_round_that_failed_for_good_is_known_with_the_first(half_damaged: Path) -> None:
    first = run(half_damaged, until_clear=True, min_confidence=0.4)
    again = run(half_damaged, load=no_model, until_clear=True, min_confidence=0.4)
    assert again["song.wav"].cached and predicted_as(again) == predicted_as(first)
    model = FakeModel()
    run(half_damaged, model, until_clear=True, retry_failed=True)
    assert model.n_classified == 2


def test_a_second_round_that_failed_for_a_while_is_tried_again(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_ahead(songs: Iterable[tuple[object, Wanted | None]], *_: object, **options: object) -> object:
        decoded = workers.decode_ahead(songs, *_, **options)  # type: ignore[arg-type]
        for item, answer in decoded:
            is_second = isinstance(item, RoundItem) and item.wanted is not None and item.wanted.n_snippets == 5
            yield item, Failure("busy", is_lasting=False) if is_second else answer

    with monkeypatch.context() as patched:
        patched.setattr("tagger.pipeline.run.decode_ahead", decode_ahead)
        results = run(mixed, until_clear=True, min_confidence=0.4)
    assert results["mixed.flac"].reason == "decided on 2 snippets, as the others failed: busy"
    assert results["half.flac"].reason == "decided on 1 snippet, as the others failed: busy"
    assert results["clear.flac"].reason == ""
    results = run(mixed, until_clear=True, min_confidence=0.4)
    assert len(results["mixed.flac"].starts_seconds) == 5 and results["mixed.flac"].reason == ""
    assert results["clear.flac"].cached and not results["mixed.flac"].cached


def test_in_full_means_in_full_after_a_run_that_stopped_early(mixed: Path) -> None:
    run(mixed, until_clear=True)
    model = FakeModel()
    results = run(mixed, model)
    assert model.n_classified == 5 and not results["clear.flac"].cached and results["mixed.flac"].cached


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
    state = library.parent / "state"
    with PredictionCache(cache_path(state), pytest.fail) as cache, Journal.open(library, state=state) as journal:
        os.close(journal._handle)
        journal._handle = os.open(os.devnull, os.O_RDONLY)  # a disk that takes no more
        with pytest.raises(JournalError):
            list(tag_songs(songs, FakeModel(), FakeModel, make_options(n_workers=1), cache, journal))  # type: ignore[arg-type]
    assert bytes_of(library) == before


@pytest.mark.parametrize(
    ("device", "n_cores", "speed", "expected"),
    [
        ("cpu", 1, 100.0, 1),
        ("cpu", 2, 100.0, 2),  # to decode and to classify take as long
        ("cpu", 8, 100.0, 5),
        ("cpu", 8, 10_000.0, 8),
        ("cpu", 64, 0.5, 2),  # a network that keeps all cores busy
        ("cuda", 16, 1500.0, 16),
    ],
)
def test_there_are_as_many_decoders_as_keep_the_model_fed(
    monkeypatch: pytest.MonkeyPatch, device: str, n_cores: int, speed: float, expected: int
) -> None:
    model = FakeModel()
    model.device, model.snippets_per_second = device, speed  # on one thread
    monkeypatch.setattr("tagger.pipeline.run.usable_cores", lambda: n_cores)
    monkeypatch.setattr("tagger.pipeline.run.decode_seconds", lambda _: 0.01)
    assert default_workers(model) == expected  # type: ignore[arg-type]


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

    monkeypatch.setattr("tagger.pipeline.run.decode_ahead", decode_ahead)
    songs = list(find_songs([str(library)]))
    options = make_options(n_workers=1, n_snippets=n_snippets, batch_size=batch_size)
    with PredictionCache(cache_path(library.parent), pytest.fail) as cache:
        list(tag_songs(songs, FakeModel(), FakeModel, options, cache))  # type: ignore[arg-type]
    assert asked == [ahead]


@pytest.mark.parametrize("existing", ["keep", "append", "replace"])
def test_a_genre_that_somebody_sets_while_the_song_is_classified_stays(library: Path, existing: str) -> None:
    path = library / "rock.ogg"

    class Slow(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            path.write_bytes(tags.retag(path.read_bytes(), ".ogg", ["Mine"]))
            return super().logits(waveforms)

    result = run(library, Slow(), write_tags=True, existing=existing)["rock.ogg"]
    assert result.status == ("kept" if existing == "keep" else "skipped") and "meanwhile" in result.reason
    assert tags.read_genres(path) == ("Mine",) and not result.written


def tag_meanwhile(
    monkeypatch: pytest.MonkeyPatch, when: str, path: Path, genres: tuple[str, ...], multi: str = "join"
) -> type[FakeModel]:
    """A model, and a moment at which another run tags that song as this one is about to."""
    others = FakeModel()

    def tag() -> None:
        new = path.with_suffix(".new")
        old = path.read_bytes()
        new.write_bytes(tags.retag(old, path.suffix, genres, multi) if genres else old)  # type: ignore[arg-type]
        os.replace(new, path)

    class Slow(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            if when == "while it is classified":
                tag()
            return others.logits(waveforms)

    def look(real: str, status: os.stat_result) -> None:
        if when == "while it is written" and real == str(path):
            tag()
        check(real, status)

    check = swap._check_unchanged
    monkeypatch.setattr(swap, "_check_unchanged", look)
    return Slow


MOMENTS = ["while it is classified", "while it is written"]


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize(
    ("existing", "old", "theirs", "status"),
    [
        ("keep", (), ("Rock",), "unchanged"),
        ("keep", (), ("Jazz",), "kept"),
        ("replace", ("Pop",), ("Rock",), "unchanged"),
        ("append", ("Pop",), ("Pop", "Rock"), "unchanged"),
    ],
)
def test_a_song_that_another_run_has_tagged_meanwhile_is_done(
    library: Path, monkeypatch: pytest.MonkeyPatch, when: str, existing: str, old: tuple[str, ...],
    theirs: tuple[str, ...], status: str,
) -> None:  # fmt: skip
    path = library / "rock.ogg"
    if old:
        path.write_bytes(tags.retag(path.read_bytes(), ".ogg", old))
    model = tag_meanwhile(monkeypatch, when, path, theirs)
    result = run(library, model(), write_tags=True, existing=existing)["rock.ogg"]
    assert (result.status, result.old, result.new, result.written) == (status, theirs, theirs, False)
    assert result.reason == "tagged by another run or program meanwhile"
    assert tags.read_genres(path) == theirs


@pytest.mark.parametrize("when", MOMENTS)
def test_a_song_that_can_hold_a_part_of_it_only_is_done_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder = tmp_path / "songs"
    folder.mkdir()
    make_tone(folder / "rock.mp3", "Rock")
    path = folder / "rock.mp3"
    path.write_bytes(id3v2(3, text(b"TIT2", "A title", 3)) + path.read_bytes())
    options = {"max_genres": 2, "min_confidence": 0.0, "id3v23_multi": "first"}
    model = tag_meanwhile(monkeypatch, when, path, ("Rock", "Blues"), "first")
    result = run(folder, model(), write_tags=True, **options)["rock.mp3"]
    assert (result.status, result.new) == ("unchanged", ("Rock",)) and "another run" in result.reason


@pytest.mark.parametrize("existing", ["keep", "replace"])
def test_other_tags_that_somebody_edits_while_a_song_is_written_are_no_other_run(
    library: Path, monkeypatch: pytest.MonkeyPatch, existing: str
) -> None:
    path = library / "rock.ogg"
    model = tag_meanwhile(monkeypatch, "while it is written", path, ())
    result = run(library, model(), write_tags=True, existing=existing)["rock.ogg"]
    assert (result.status, result.reason) == ("failed", "changed by another program meanwhile")


def test_two_runs_at_once_are_done_with_all_songs(library: Path, tmp_path: Path) -> None:
    """With all their moments, as they come."""
    for number in range(20):
        shutil.copy(library / "rock.ogg", library / f"rock {number}.ogg")
    results: dict[int, list[SongResult]] = {0: [], 1: []}

    def tag(number: int) -> None:
        songs, state = list(find_songs([str(library)])), tmp_path / f"state {number}"
        options = make_options(n_workers=1)
        with PredictionCache(cache_path(state), pytest.fail) as cache, Journal.open(library, state=state) as journal:
            results[number] += tag_songs(songs, FakeModel(), FakeModel, options, cache, journal)  # type: ignore[arg-type]

    threads = [threading.Thread(target=tag, args=(number,)) for number in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [result for each in results.values() for result in each]
    assert len(done) == 2 * 23 and {result.status for result in done} <= {"tagged", "unchanged", "kept"}
    for result in done:
        path = Path(result.path)
        assert result.new == tags.read_genres(path) == (path.stem.split()[0].capitalize(),)


# --- what is cached


def predicted_as(results: dict[str, SongResult]) -> dict[str, tuple[object, ...]]:
    """All that a result says, but whether it was known."""
    return {name: (r.status, r.old, r.new, r.decision, r.reason, r.starts_seconds) for name, r in results.items()}


def closed_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no song may be opened to know it."""

    def opened(path: object, *_: object) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr("tagger.tags.genre.read_genres", opened)
    monkeypatch.setattr("tagger.pipeline.cache.identify", opened)


def give_genre(path: Path, genre: str) -> None:
    """Tag a song as another program does, in place."""
    path.write_bytes(tags.retag(path.read_bytes(), path.suffix, [genre]))


def test_songs_are_looked_at_in_groups_that_grow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked_at: list[Path | str] = []
    look = Tagging.look

    def counted(self: Tagging, found: Found) -> object:
        looked_at.append(found.path)
        return look(self, found)

    monkeypatch.setattr(Tagging, "look", counted)
    songs = [Found(tmp_path / f"{number}.mp3", problem="odd") for number in range(50)]
    with PredictionCache(cache_path(tmp_path), pytest.fail) as cache:
        results = tag_songs(songs, FakeModel(), no_model, make_options(), cache)  # type: ignore[arg-type]
        n_ahead = [len(looked_at) for _ in results]
    assert n_ahead[:4] == [1, 3, 3, 7] and n_ahead[-1] == 50
    assert max(ahead - done for done, ahead in enumerate(n_ahead)) == 16


def test_decoders_start_while_the_model_is_loaded(library: Path) -> None:
    n_decoders = []

    def load() -> FakeModel:
        n_decoders.append(len(active_children()))
        return FakeModel()

    run(library, load=load)
    assert n_decoders == [1] and not active_children()  # as many as there are to be at least


def test_a_model_that_cannot_be_loaded_leaves_no_decoder_behind(library: Path) -> None:
    with pytest.raises(AssertionError, match="loaded"):
        run(library, load=no_model)
    assert not active_children()


def test_a_second_run_needs_no_model_and_opens_no_file(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(library)
    assert not any(result.cached for result in first.values())
    closed_book(monkeypatch)
    second = run(library, load=no_model)
    assert all(result.cached for result in second.values())
    assert predicted_as(second) == predicted_as(first)


@pytest.mark.parametrize(
    ("options", "status", "new"),
    [
        ({"min_confidence": 0.9999}, "unsure", ()),
        ({"aggregate": "vote", "min_confidence": 1.0}, "tagged", ("Rock",)),
        ({"names": {"Rock": "Loud"}}, "tagged", ("Loud",)),
        ({"max_genres": 2, "min_confidence": 0.0}, "tagged", ("Rock", "Blues")),
    ],
)
def test_a_song_is_decided_on_again_without_being_classified(
    library: Path, options: dict[str, object], status: str, new: tuple[str, ...]
) -> None:
    assert run(library)["rock.ogg"].new == ("Rock",)
    result = run(library, load=no_model, **options)["rock.ogg"]  # type: ignore[arg-type]
    assert (result.status, result.new, result.cached) == (status, new, True)


@pytest.mark.parametrize("options", [{"n_snippets": 1}, {"n_snippets": None}, {"precision": "bf16"}])
def test_a_song_that_is_to_be_classified_otherwise_is_classified_again(
    library: Path, options: dict[str, object]
) -> None:
    run(library)
    model = FakeModel()
    results = run(library, model, **options)  # type: ignore[arg-type]
    assert model.n_classified and not any(result.cached for result in results.values())


def test_another_model_classifies_for_itself(library: Path) -> None:
    run(library)
    assert {result.status for result in run(library, FakeModel(logit=0.3)).values()} == {"unsure"}
    assert {result.status for result in run(library, load=no_model).values()} == {"tagged"}


def test_what_was_classified_in_any_precision_answers_who_asks_for_none(library: Path) -> None:
    model = FakeModel()
    model.precision = "bf16"
    run(library, model)
    assert all(result.cached for result in run(library, load=no_model).values())
    assert all(result.cached for result in run(library, load=no_model, precision="bf16").values())
    assert not any(result.cached for result in run(library, precision="fp32").values())


def test_a_renamed_moved_or_tagged_song_is_known(library: Path) -> None:
    run(library)
    (library / "album").mkdir()
    (library / "rock.ogg").rename(library / "album" / "other name.ogg")
    shutil.copy(library / "blues.flac", library / "copy.flac")
    give_genre(library / "classical.mp3", "Opera")
    results = run(library, load=no_model)
    assert {name: (r.old, r.decision.genres) for name, r in results.items() if r.decision} == {
        "blues.flac": ((), ("Blues",)),
        "classical.mp3": (("Opera",), ("Classical",)),
        "copy.flac": ((), ("Blues",)),
        "other name.ogg": ((), ("Rock",)),
    }


def test_a_replaced_song_is_not_mistaken_for_the_old_one(library: Path) -> None:
    path = library / "song.wav"
    make_tone(path, "Rock")
    run(library)
    before = path.stat()
    make_tone(path, "Blues")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    model = FakeModel()
    result = run(library, model)["song.wav"]
    assert (result.new, result.cached, model.n_classified) == (("Blues",), False, 1)


def test_only_the_songs_that_are_new_are_classified_and_all_keep_their_order(library: Path) -> None:
    run(library)
    for number in range(20):
        shutil.copy(library / "rock.ogg", library / f"{number:02} known.ogg")
    make_tone(library / "07 new.wav", "Blues")
    make_tone(library / "zz new.wav", "Rock")
    model = FakeModel()
    results = run(library, model)
    assert {name for name, result in results.items() if not result.cached} == {"07 new.wav", "zz new.wav"}
    assert model.n_classified == 2


def test_reanalyze_classifies_again_and_replaces_what_was_known(library: Path) -> None:
    class Changed(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            return np.roll(super().logits(waveforms), 1, axis=1)

    assert run(library)["rock.ogg"].new == ("Rock",)
    changed = run(library, Changed(), reanalyze=True)["rock.ogg"]
    assert (changed.new, changed.cached) == (("Blues",), False)
    assert run(library, load=no_model)["rock.ogg"].new == ("Blues",)


def undecodable(path: Path) -> None:
    """A FLAC with sound headers and tags, in which no frame is intact."""
    make_tone(path, "Rock")
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes(len(data) - 200))


def test_a_failure_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "library" / "bad.flac"
    path.parent.mkdir()
    undecodable(path)
    first = run(path.parent)["bad.flac"]
    assert (first.status, first.cached) == ("failed", False) and "decoded" in first.reason
    again = run(path.parent, load=no_model)["bad.flac"]
    assert (again.status, again.reason, again.cached) == ("failed", first.reason, True)
    with pytest.raises(AssertionError, match="loaded"):
        run(path.parent, load=no_model, retry_failed=True)
    make_tone(path, "Rock")
    fixed = run(path.parent)["bad.flac"]
    assert (fixed.new, fixed.cached) == (("Rock",), False)


@pytest.mark.parametrize("write_tags", [False, True])
def test_a_song_that_can_never_be_read_is_known_to_fail_from_then_on(tmp_path: Path, write_tags: bool) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "empty.mp3").touch()
    (library / "text.flac").write_text("not music")
    for known in (False, True, True):
        results = run(library, load=no_model, write_tags=write_tags)
        assert {(each.status, each.cached, each.is_lasting) for each in results.values()} == {("failed", known, True)}
    again = run(library, load=no_model, write_tags=write_tags, retry_failed=True)
    assert not any(each.cached for each in again.values())
    (library / "empty.mp3").write_text("another thing")
    assert {name: each.cached for name, each in run(library, load=no_model).items()} == {
        "empty.mp3": False, "text.flac": True,
    }  # fmt: skip


def refuse(*_: object) -> None:
    """In the place of `verify`: no song can be written safely."""
    raise TagError("", "the audio would change")


def test_a_song_that_can_never_be_written_is_known_to_fail_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library" / "odd.flac"
    path.parent.mkdir()
    make_tone(path, "Rock")
    monkeypatch.setattr("tagger.tags.journal.verify", refuse)
    assert run(path.parent)["odd.flac"].status == "tagged"  # to look at it shows nothing
    for known in (False, True):
        result = run(path.parent, write_tags=True)["odd.flac"]
        assert (result.status, result.cached, result.is_lasting) == ("failed", known, True)
        assert result.reason == "the audio would change"
    assert run(path.parent)["odd.flac"].status == "tagged"  # it is known to be no song to write, not to be no song
    assert not run(path.parent, write_tags=True, retry_failed=True)["odd.flac"].cached
    other = run(path.parent, write_tags=True, names={"Rock": "Stone"}, reanalyze=True)["odd.flac"]
    assert other.cached  # classified again, and the old trouble again


@pytest.mark.parametrize("function", ["tagger.tags.genre.Path.open", "tagger.tags.swap.os.replace"])
def test_what_the_system_could_not_do_is_new_each_time(
    library: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    run(library)
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(function, fail)
            results = run(library, write_tags=True, reanalyze=True)
        assert {(each.status, each.cached, each.is_lasting) for each in results.values()} == {("failed", False, False)}


def test_a_full_disk_is_new_each_time(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 1, 1))
    for _ in range(2):
        results = run(library, write_tags=True)
        assert {(each.reason, each.cached) for each in results.values()} == {("not enough free space beside it", False)}


def test_giving_up_for_want_of_time_is_not_remembered(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_ahead(songs: Iterable[tuple[object, Path | None]], *_: object, **__: object) -> Iterator[object]:
        for song, path in songs:
            yield song, Failure("decoding took longer than 60 s", is_lasting=False) if path else None

    with monkeypatch.context() as patched:
        patched.setattr(
            "tagger.pipeline.run.decode_ahead", lambda *args, **options: closable(decode_ahead(*args, **options))
        )
        assert {result.status for result in run(library).values()} == {"failed"}
    assert {result.status for result in run(library).values()} == {"tagged"}


def closable(items: Iterator[object]) -> Generator[object, None, None]:
    yield from items


def test_a_song_is_remembered_before_it_is_written(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, "write_genres", die)
        run(library, write_tags=True)
    model = FakeModel()
    assert run(library, model)["blues.flac"].cached
    assert model.n_classified == 2


def test_a_song_we_wrote_is_known_by_its_stamp_with_its_genre(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(library, write_tags=True)
    closed_book(monkeypatch)
    results = run(library, load=no_model, existing="replace")
    assert {name: (r.status, r.old) for name, r in results.items()} == {
        "blues.flac": ("unchanged", ("Blues",)),
        "classical.mp3": ("unchanged", ("Classical",)),
        "rock.ogg": ("unchanged", ("Rock",)),
    }


def test_a_song_whose_genre_was_taken_back_is_known(library: Path) -> None:
    run(library, write_tags=True)
    state = library.parent / "state"
    with Journal.open(library, state=state) as journal:
        assert {undone.result for undone in undo(list_runs(state)[0], journal)} == {"bytes"}
    results = run(library, load=no_model)
    assert {(result.status, result.old, result.cached) for result in results.values()} == {("tagged", (), True)}


def test_a_genre_that_was_written_in_part_is_known_as_it_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "library" / "song.mp3"
    path.parent.mkdir()
    make_tone(path, "Rock")
    tone = path.read_bytes()
    path.write_bytes(id3v2(3, text(b"TIT2", "x", 3)) + tone[tone.index(b"\xff\xfb") :])
    several = {"max_genres": 2, "min_confidence": 0.0, "existing": "append", "id3v23_multi": "first"}
    assert run(path.parent, write_tags=True, **several)["song.mp3"].new == ("Rock", "Blues")  # type: ignore[arg-type]
    assert tags.read_genres(path) == ("Rock",)
    assert run(path.parent, load=no_model)["song.mp3"].old == ("Rock",)


def test_a_song_that_is_replaced_while_it_is_classified_is_not_written(library: Path) -> None:
    path = library / "rock.ogg"

    class Slow(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            make_tone(path, "Blues")
            return super().logits(waveforms)

    before = run(library, Slow(), write_tags=True)
    assert before["rock.ogg"].status == "skipped" and "replaced" in before["rock.ogg"].reason
    assert tags.read_genres(path) == ()
    result = run(library, write_tags=True)["rock.ogg"]
    assert (result.new, result.cached) == (("Blues",), False)


def test_a_song_that_cannot_be_written_is_not_classified_for_it(library: Path, tmp_path: Path) -> None:
    for path in list(library.iterdir()):
        os.link(path, tmp_path / path.name)
    results = run(library, load=no_model, write_tags=True)
    assert {(result.status, result.reason) for result in results.values()} == {("skipped", "has 2 hard links")}


def test_a_cache_that_cannot_be_used_is_told_once_and_not_missed(library: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []
    songs = list(find_songs([str(library)]))
    with PredictionCache(tmp_path / "file" / "cache.sqlite3", told.append) as cache:
        results = list(tag_songs(songs, FakeModel(), FakeModel, make_options(n_workers=1), cache))  # type: ignore[arg-type]
    assert [(result.status, result.cached) for result in results] == [("tagged", False)] * 3
    assert len(told) == 1


# --- several genres in one value


@pytest.mark.parametrize("separator", ["; ", " / "])
def test_several_genres_become_one_value_that_is_read_as_several(library: Path, separator: str) -> None:
    several = {"max_genres": 2, "min_confidence": 0.0, "separator": separator}
    assert run(library, write_tags=True, **several)["rock.ogg"].new == ("Rock", "Blues")  # type: ignore[arg-type]
    for name, genres in (("rock.ogg", ("Rock", "Blues")), ("blues.flac", ("Blues", "Classical"))):
        assert tags.read_genres(library / name) == (separator.join(genres),)
    before = bytes_of(library)
    for existing in ("append", "replace"):
        results = run(library, write_tags=True, existing=existing, load=no_model, **several)  # type: ignore[arg-type]
        assert {result.status for result in results.values()} == {"unchanged"}
    assert bytes_of(library) == before


def test_a_genre_is_added_to_the_value_that_holds_the_others(library: Path) -> None:
    give_genre(library / "rock.ogg", "Polka, Folk")
    result = run(library, write_tags=True, existing="append", separator=", ")["rock.ogg"]
    assert (result.old, result.new) == (("Polka", "Folk"), ("Polka", "Folk", "Rock"))
    assert tags.read_genres(library / "rock.ogg") == ("Polka, Folk, Rock",)


def test_a_run_asks_for_all_songs_by_one_method(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of what it says takes longer than to look a song up."""
    asked: list[Method] = []
    recall = PredictionCache.recall

    def spy(cache: PredictionCache, seen: Seen, method: Method, *how: bool, **more: bool) -> object:
        asked.append(method)
        return recall(cache, seen, method, *how, **more)

    monkeypatch.setattr(PredictionCache, "recall", spy)
    n_songs = len(run(library, FakeModel()))
    assert len(asked) == n_songs > 1 and len({id(method) for method in asked}) == 1
    asked.clear()
    learned = FakeModel(logit=7.0)
    learned.backbone = "another"  # of which no embeddings are cached either
    run(library, learned)
    assert len(asked) == 2 * n_songs and len({id(method) for method in asked}) == 2
