"""The way of the embedded checkpoint, walked on a slice: `make campaign-starter OPTIONS='--teachers FOLDER'`.

Fetches a few of the recordings, makes a few mixes and accompaniments, has teachers label them, prepares, trains for
one epoch and judges, each by the very commands of `make starter`; then tags a song with what came of it. Needs what
these need: Debian's apt-get, openmpt123, mma, fluidsynth, and the weights of the teachers. Recordings of the split test
lie in repositories, and are not fetched: what comes of it is judged by those of validate.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tagger.models.genre_model import GenreModel
from tests.support.songs import make_song

#: Small packages, of train and validate: music with and without a genre that a person gave, tracker modules, speech.
SOURCES = (
    "asterisk-core-sounds-ru-wav ballz-data bb biniax2-data blockout2 bugsquish ceferino-data circuslinux-data"
    " csmash-demosong dodgindiamond2 flobopuyo freedroid-data funnyboat gl-117-data gltron gweled hannah-data"
    " heroes-sound-tracks krank madbomber-data monsterz-data njam-data pangzero penguin-command phlipple-data"
    " pushover-data rockdodger seahorse-adventures solarwolf starfighter-data tecnoballz-data vectoroids vor"
)
LIMIT = 4  # recordings of each
N_SYNTHESISED = 2  # of each genre
N_MIXES = 24
N_SUNG = 12


def make(folder: Path, teachers: Path) -> float:
    """Seconds that `make starter` took for the slice; ends the campaign where it fails."""
    corpus = " ".join(f"--source debian:{name}" for name in SOURCES.split()) + f" --limit {LIMIT}"
    settings = {"STARTER": folder, "TEACHERS": teachers.absolute(), "OPTIONS": corpus}
    settings |= {"SYNTHESISED": N_SYNTHESISED, "MIXES": N_MIXES, "EPOCHS": 1, "SUNG": N_SUNG, "SHARDS": 1, "STEPS": 10}
    words = ["make", "starter", *(f"{name}={value}" for name, value in settings.items())]
    began = time.perf_counter()
    if subprocess.run(words, check=False).returncode:
        sys.exit("make starter failed")
    return time.perf_counter() - began


def check(folder: Path) -> dict[str, object]:
    """What stands in the folder; AssertionError where something is not as it has to be."""
    with (folder / "labels" / "songs.csv").open(encoding="utf-8") as file:
        songs = list(csv.DictReader(file))
    assert len(songs) > 40, songs
    assert {"train", "validate"} == {song["split"] for song in songs}
    made = Counter(Path(song["path"]).parent.name for song in songs)
    assert made["mixes"] == N_MIXES and made["tones"] == 60 and made["synthesised"] and made["recordings"], made
    record = json.loads((folder / "dataset" / "prepare.json").read_text(encoding="utf-8"))
    assert all(record["n_snippets"][split] for split in ("train", "validate"))
    model = GenreModel.load(str(folder / "model"), "cpu", "fp32")
    assert model.snippet_samples == record["snippet_samples"] == 80_000
    assert (folder / "model" / "model.safetensors").stat().st_size < 15e6
    song = make_song(folder / "song.wav", seconds=20)
    words = [sys.executable, "-m", "tagger", song, "--model", folder / "model", "--json", "-", "--reanalyze"]
    told = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    assert json.loads(told.stdout.splitlines()[0])["path"] == str(song)
    return {"songs": dict(made), "genres": len(model.head.genres), "snippets": record["n_snippets"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--teachers", type=Path, default=Path("teachers"), metavar="FOLDER", help="their weights")
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "starter")
        seconds = make(folder, arguments.teachers)
        found = check(folder)
        print((folder / "model" / "SCORES.md").read_text(encoding="utf-8"))
    print("; ".join(f"{name} {value}" for name, value in found.items()), f"in {seconds:.0f} s")


if __name__ == "__main__":
    main()
