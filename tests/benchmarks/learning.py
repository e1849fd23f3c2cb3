"""What learning a library's genres brings, on the recordings that people labelled.

    make bench-learning OPTIONS='STARTER/recordings --model STARTER/whole'

The model has to be one that these recordings did not correct: what `make starter` trains, before `release`. Libraries
are drawn from them and learned, and what is learned is asked about songs that it did not learn from: of artists of whom
the library has none, and of artists of whom it has some. Then `learn` itself judges, held out by artists. Of a third of
the recordings the network knows what its teachers answered, and not what people did.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tagger.audio.library import find_songs
from tagger.models.checkpoint import read_last_layer
from tagger.models.description import Description, describe
from tagger.pipeline.options import PredictOptions, TagOptions
from tagger.terminal.predicting import predicted
from training.dataset.songs import LabelledSong
from training.probe.base import Base
from training.probe.folds import learn, mix
from training.probe.outcome import Outcome
from training.probe.songs import Tagged
from training.starter.corpus import NO_MUSIC, read_recordings

SIZES = (50, 100, 200, 400)  # songs of a library
N_LIBRARIES = 20  # of each size
ASKED = 0.2  # of the artists, or of the songs: those that a library does not have
FEWEST = 5  # songs of a genre of such a library
N_FREQUENT = (15, 8, 4)  # the most frequent genres of which `learn` judges


def labelled(folder: Path, description: Description) -> Tagged:
    """The recordings that people gave a genre of the model, cached or classified now."""
    genres = description.head.genres
    known = {
        folder / each.name: each for each in read_recordings()
        if each.genre in genres and each.genre != NO_MUSIC
    }  # fmt: skip
    predict = PredictOptions(model=description.name, with_embeddings=True)
    songs = list(find_songs([str(path) for path in known if path.exists()]))
    songs_of, rows = [], []
    with predicted(songs, description, TagOptions(predict)) as (_, results):
        for result in results:
            if result.prediction is not None and result.prediction.embeddings is not None:
                recording = known[Path(result.path)]
                artist = recording.artist or recording.source
                songs_of.append(LabelledSong(Path(result.path), recording.genre, artist=artist, seconds=1.0))
                rows.append((result.prediction.embeddings.mean(axis=0), result.prediction.logits.mean(axis=0)))
    labels = np.array([genres.index(song.genre) for song in songs_of])
    artists = np.unique([song.artist for song in songs_of], return_inverse=True)[1]
    embeddings, logits = (np.stack(each) for each in zip(*rows, strict=True))
    return Tagged(genres, tuple(songs_of), labels, artists, embeddings, logits)


def subset(tagged: Tagged, rows: np.ndarray, fewest: int, fewest_artists: int = 1) -> Tagged:
    """These songs, of the genres that have enough of them."""
    kept = [
        label for label in range(len(tagged.genres))
        if (there := tagged.labels[rows] == label).sum() >= fewest
        and len(np.unique(tagged.artists[rows][there])) >= fewest_artists
    ]  # fmt: skip
    rows = rows[np.isin(tagged.labels[rows], kept)]
    return replace(
        tagged,
        genres=tuple(tagged.genres[label] for label in kept),
        songs=tuple(tagged.songs[row] for row in rows),
        labels=np.searchsorted(kept, tagged.labels[rows]),
        artists=np.unique(tagged.artists[rows], return_inverse=True)[1],
        embeddings=tagged.embeddings[rows],
        logits=tagged.logits[rows],
    )


def asked(library: Tagged, others: Tagged, description: Description) -> tuple[float, float, float, float] | None:
    """Of other songs of the library's genres: majority, the model, learned alone, both. None where there are few."""
    layer = read_last_layer(description)
    base = Base.of(description.head, *layer, library.genres)
    is_of = np.isin([others.genres[label] for label in others.labels], library.genres)
    if len(library.genres) < 2 or is_of.sum() < FEWEST:
        return None
    truth = np.array([library.genres.index(others.genres[label]) for label in others.labels[is_of]])
    embeddings, prior = others.embeddings[is_of], base.prior(others.logits[is_of])
    learned = learn(library, base)
    regression = learned.regression.logits(embeddings)
    answers = np.full((len(truth), 1), np.bincount(library.labels).argmax()) == np.arange(len(library.genres))
    return tuple(  # type: ignore[return-value]
        float((each.argmax(axis=1) == truth).mean())
        for each in (answers, prior, regression, mix(learned.strength, prior, regression))
    )


def libraries(tagged: Tagged, description: Description, by_artist: bool) -> None:
    """Print a line for each size: what libraries of it learned."""
    for size in SIZES:
        found, n_genres = [], []
        for seed in range(N_LIBRARIES):
            rng = np.random.default_rng([size, seed])
            unit = tagged.artists if by_artist else np.arange(len(tagged.labels))
            out = np.isin(unit, rng.choice(unit.max() + 1, int(ASKED * (unit.max() + 1)), replace=False))
            inside = rng.permutation(np.flatnonzero(~out))
            library = subset(tagged, inside[:size], FEWEST, 2)
            others = np.flatnonzero(out)
            if not by_artist:
                others = others[np.isin(tagged.artists[others], tagged.artists[inside[:size]])]
            if len(others) and (row := asked(library, subset(tagged, others, 1), description)) is not None:
                found.append(row)
                n_genres.append(len(library.genres))
        majority, model, alone, both = np.mean(found, axis=0)
        gains = np.array([row[3] - row[1] for row in found])
        low, high = np.quantile(gains, [0.025, 0.975])
        print(
            f"{size:4} songs, {np.mean(n_genres):4.1f} genres: majority {majority:.2f}, model {model:.2f},"
            f" learned alone {alone:.2f}, both {both:.2f}, gain {gains.mean():+.3f} ({low:+.3f} to {high:+.3f})",
            flush=True,
        )


def judged(tagged: Tagged, description: Description, n_genres: int) -> None:
    """Print what `learn` says of the songs of the most frequent genres."""
    often = np.argsort(-np.bincount(tagged.labels), kind="stable")[:n_genres]
    part = subset(tagged, np.flatnonzero(np.isin(tagged.labels, often)), 1)
    base = Base.of(description.head, *read_last_layer(description), part.genres)
    outcome = Outcome.of(part, base, learn(part, base), description, ())
    n_written, n_right = outcome.written_right
    print(
        f"{n_genres} genres, {len(part.labels)} songs: {outcome.comparison.before:.3f} to"
        f" {outcome.comparison.after:.3f}. {outcome.verdict()} Written {n_written}, {n_right} rightly;"
        f" of a genre left out {outcome.learned.written_without_genre:.1%}. {outcome.learned.threshold.reason}",
        flush=True,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.learning", description=__doc__)
    parser.add_argument("recordings", type=Path, help="the folder of the recordings")
    parser.add_argument("--model", required=True, help="a checkpoint that they did not correct")
    given = parser.parse_args(words)
    description = describe(given.model)
    tagged = labelled(given.recordings, description)
    print(f"{len(tagged.labels)} recordings, {tagged.artists.max() + 1} artists or sources", flush=True)
    print("of artists that the library has not:", flush=True)
    libraries(tagged, description, by_artist=True)
    print("of artists that it has:", flush=True)
    libraries(tagged, description, by_artist=False)
    for n_genres in N_FREQUENT:
        judged(tagged, description, n_genres)


if __name__ == "__main__":
    main()
