"""Seeded reports, to show and to test: of any number of genres and songs, with hostile names among them."""

import numpy as np

from tagger.report.document import Column, Curves, Matrix, Report, Song, Songs, Table

GENRES = (
    "Rock", "Pop", "Hip-Hop", "Electronic", "Jazz", "Classical", "Blues", "Country", "Folk, World, & Country", "Metal",
    "Reggae", "Soul", "Funk", "Punk", "Ambient", "House", "Techno", "Drum and Bass", "Disco", "Latin",
)  # fmt: skip
#: Names as the worst of all libraries has them.
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' onmouseover='document.title=1' x='&lt;b&gt;&amp;",
    "<!--<script>",
    "שלום עולם (קטע 3).mp3",
    "مرحبا بالعالم",
    "invoice\u202egpj.exe",
    "caf\udce9 latin-1",
    "line\nbreak\ttab \x1b[31m\x00",
    "名前の長い曲",
    "W" * 200,
    "two words " * 20,
    "${7*7} {{7*7}} %s",
)
STATUSES = ("right", "wrong", "unsure", "failed", "untagged")


def genres_of(n_genres: int) -> tuple[str, ...]:
    """So many genres."""
    return tuple(
        GENRES[i] if i < len(GENRES) else f"{GENRES[i % len(GENRES)]} {i // len(GENRES)}" for i in range(n_genres)
    )


def matrix_of(n_genres: int, key: str = "confusion") -> Matrix:
    """A confusion of so many genres, one of which has no songs where there are more than three."""
    random = np.random.default_rng(n_genres)
    counts = np.diag(random.integers(5, 90, n_genres))
    for _ in range(6 * n_genres):
        counts[tuple(random.integers(0, n_genres, 2))] += random.integers(0, 9)
    if n_genres > 3:
        counts[3] = 0
    genres = genres_of(n_genres)
    return Matrix(key, "Reference and predicted genre", genres, genres, counts, "A row holds the songs of a reference.")


def matrix_from(songs: tuple[Song, ...], genres: tuple[str, ...]) -> Matrix:
    """The confusion of songs."""
    counts = np.zeros((len(genres), len(genres)), int)
    for song in songs:
        if song.reference and song.predicted:
            counts[genres.index(song.reference[0]), genres.index(song.predicted[0])] += 1
    return Matrix("confusion", "Reference and predicted genre", genres, genres, counts)


def songs_of(n_songs: int, genres: tuple[str, ...], seed: int = 5) -> tuple[Song, ...]:
    """Songs of every status, with the hostile names between them."""
    random = np.random.default_rng(seed)
    songs = []
    for number in range(n_songs):
        status = STATUSES[int(random.choice(len(STATUSES), p=[0.7, 0.18, 0.07, 0.02, 0.03]))]
        order = random.permutation(len(genres))
        reference = () if status == "untagged" else (genres[order[0]],)
        best = order if status == "right" else np.roll(order, -1)
        shares = np.sort(random.dirichlet(np.full(min(5, len(genres)), 0.6)))[::-1]
        ranking = tuple((genres[label], float(share)) for label, share in zip(best, shares, strict=False))
        name = HOSTILE[number] if number < len(HOSTILE) else f"{number % 14 + 1:02d} A Song of the Number {number}.flac"
        song = Song(
            path=f"/home/anna/Music/The Artist of Number {number // 28}/An Album ({1970 + number // 14 % 50})/{name}",
            reference=reference,
            predicted=() if status in ("unsure", "failed") else (ranking[0][0],),
            confidence=None if status == "failed" else ranking[0][1],
            ranking=() if status == "failed" else ranking,
            starts_seconds=() if status == "failed" else tuple(float(x) for x in np.linspace(0, 190 + number % 99, 5)),
            status=status,
            reason={"unsure": "below 0.55", "failed": "not audio: invalid data <found>"}.get(status, ""),
        )
        songs.append(song)
    return tuple(songs)


def example(n_genres: int = 20, n_songs: int = 300) -> Report:
    """A report with every kind of section and of column."""
    random = np.random.default_rng(n_genres + n_songs)
    genres = genres_of(n_genres)
    scores = tuple((genre, int(random.integers(0, 900)), *map(float, random.random(3))) for genre in genres)
    return Report(
        kind="library",
        title="Music in /home/anna/Music",
        facts=(
            ("songs", f"{n_songs}, of which 43 could not be decoded"),
            ("model", "starter <v1> on cpu"),
            ("agreement", "0.731 of the tagged songs (0.712 to 0.750)"),
            ("folder", "/home/anna/" + "a very long folder/" * 8 + "caf\udce9"),
        ),
        sections=(
            matrix_of(n_genres),
            Table(
                "genres",
                "Genres",
                (Column("genre"), Column("songs", "count"), *(Column(x, "share") for x in ("precision", "recall"))),
                (*(row[:4] for row in scores), ("Opera", 0, None, None)),
                "The precision of a genre that was never predicted is unknown.",
            ),
            kinds(),
            curves(),
            Table("spellings", "Spellings", (Column("spelling"),), (), "No genre is spelt in two ways."),
            Songs("songs", "Songs", songs_of(n_songs, genres), "The surest disagreement comes first."),
        ),
    )


def curves() -> Curves:
    """Lines of shares, one of which begins late."""
    rows = tuple((epoch, epoch / 5, None if epoch == 1 else 0.5) for epoch in range(1, 6))
    return Curves("curves", "Curves", (Column("epoch", "count"), Column("<a>", "share"), Column("b", "share")), rows)


def kinds() -> Table:
    """A table with a column of every kind and a row of every hostile name."""
    columns = (
        Column("name"),
        Column("songs", "count"),
        Column("share right", "share"),
        Column("ratio", "number"),
        Column("length", "seconds"),
        Column("genres", "genres"),
    )
    rows = tuple(
        (
            name,
            12345 * at % 977,
            None if at == 2 else at / 13,
            None if at == 3 else 5.5 - at,
            611.5 * at,
            (name, "Rock")[: at % 3],
        )
        for at, name in enumerate(HOSTILE)
    )
    return Table("kinds", "Every kind of column", columns, rows)
