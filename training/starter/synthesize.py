"""Songs of known genre from nothing: accompaniments by Debian's `mma`, rendered by `fluidsynth`.

    python -m training.starter.synthesize songs --per-genre 30 && genre-tag prepare songs/songs.csv --out dataset

For trying a training out where there is no labelled music, and for comparing recipes. A style file of MMA stands for
an artist: its songs sound alike, and splits must not part them.
"""

from __future__ import annotations

import csv
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from tqdm import tqdm

from tagger.audio.workers import usable_cores
from training.starter import NothingDoneError

STYLES = Path("/usr/share/mma/lib")
SOUNDFONTS = Path("/usr/share/sounds/sf2")

#: Genre -> style files that nobody would file elsewhere.
GENRES = {
    "Blues": "stdlib/blues stdlib/blues128 stdlib/blues68 stdlib/countryblues stdlib/fastblues stdlib/slowblues"
    " stdlib/shuffleboggie stdlib/boggiewoggie casio/blues casio/shuffleboogie",
    "Country": "stdlib/bluegrass stdlib/countryswing stdlib/countrywaltz stdlib/hillcountry stdlib/slowcountry"
    " stdlib/westernswing stdlib/zydeco yamaha/jazzcountry yamaha/western kara/kwestballad",
    "Electronic": "stdlib/trance alexis/teamtechno casio/house casio/techno casio/trance1 casio/trance2 casio/rave"
    " casio/dance1 casio/dance2 casio/triphop casio/8beatdance casio/ambient1 casio/ambient2",
    "Folk": "stdlib/folk stdlib/folkballad stdlib/folkrock stdlib/bluefolk stdlib/guitarballad",
    "Hip-Hop": "alexis/hiphop casio/hip-hop zoom/hiphop zoom/trip",
    "Jazz": "stdlib/bebop stdlib/bigband stdlib/jazzcombo stdlib/jazzguitar stdlib/jazzwaltz stdlib/mellowjazz"
    " stdlib/modernjazz stdlib/nitejazz stdlib/evansish stdlib/gypsyjazz casio/jazzcombo casio/modernjazz"
    " yamaha/jazzbasie yamaha/jazztrio",
    "Latin": "stdlib/bossanova stdlib/samba stdlib/salsa stdlib/mambo stdlib/merengue stdlib/chacha stdlib/rhumba"
    " stdlib/son stdlib/beguine stdlib/afro-cuban stdlib/calypso casio/latinfusion yamaha/salsa1 kara/kbossa",
    "Metal": "casio/heavymetal pflib/metal1 pflib/metal2 zoom/mtl zoom/hrk zoom/thr",
    "Pop": "casio/pop casio/60spop casio/80spop casio/electricpop casio/dancepop1 casio/dancepop2 casio/dancepop3"
    " casio/8beatpop1 casio/8beatpop2 casio/8beatpop3 casio/popshuffle1 casio/popshuffle2 casio/poprock1 casio/poprock2"
    " casio/16beat1 casio/16beat2 casio/8beat1 casio/popballad stdlib/popballad stdlib/8beat zoom/pop zoom/beat8",
    "Reggae": "zoom/reggae zoom/ska stdlib/ska",
    "Rock": "stdlib/50srock stdlib/60srock stdlib/basicrock stdlib/bubblerock stdlib/rock-128 stdlib/softrock"
    " casio/60srock casio/rock1 casio/rock2 casio/digitalrock casio/slowrock pflib/rock1 yamaha/w-rock",
    "Soul": "stdlib/dsoul stdlib/rb stdlib/bvfunk casio/60ssoul casio/soul casio/soulpop casio/discosoul casio/funk1"
    " casio/funk2 casio/modernrb casio/mellowrb casio/r+b kara/Kfunk1 kara/8beatmotown",
    "Waltz": "stdlib/waltz stdlib/fastwaltz stdlib/vienesewaltz stdlib/frenchwaltz stdlib/broadwaywaltz"
    " stdlib/arpeggiowaltz casio/popwaltz stdlib/rockwaltz",
}
#: Four bars each, in C; a song goes through a few of them in its own key.
PROGRESSIONS = (
    "C Am F G7", "C F G7 C", "Am F C G7", "C C7 F Fm", "Dm7 G7 CM7 Am7", "C G7 Am F", "Am Dm E7 Am",
    "C7 F7 C7 G7", "F G7 Em Am", "CM7 Em7 Dm7 G7",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a song."""

    genre: str
    style: str
    number: int
    seed: int
    seconds: float

    @property
    def name(self) -> str:
        """File name of the song."""
        return f"{self.genre} {self.style.replace('/', ' ')} {self.number:02d}.ogg"


def recipes(genres: Iterable[str], per_genre: int, seconds: float, seed: int) -> Iterator[Recipe]:
    """`per_genre` songs of each genre, its styles taking turns."""
    for genre in genres:
        names = GENRES[genre].split()
        for number in range(per_genre):
            yield Recipe(genre, names[number % len(names)], number, seed * 10_000 + number, seconds)


def grooves(style: str) -> list[str]:
    """Grooves of a style file that go on for as long as one likes."""
    text = (STYLES / f"{style}.mma").read_text(encoding="utf-8", errors="replace")
    names = re.findall(r"^DefGroove\s+(\S+)", text, flags=re.MULTILINE)
    return [name for name in names if not re.search(r"intro|end|fill|click|metronome", name, re.IGNORECASE)] or names


def score(recipe: Recipe) -> str:
    """What MMA reads."""
    rng = random.Random(f"{recipe.seed} {recipe.genre} {recipe.style}")
    groove = rng.choice(grooves(recipe.style))
    tempo = round(rng.uniform(92, 138))
    n_bars = max(8, 4 * round(recipe.seconds * tempo / 60 / 4 / 4))
    lines = [
        f"RndSeed {rng.randrange(10**6)}",
        f"Groove {recipe.style}:{groove}",
        f"Tempo {tempo}",
        f"Transpose {rng.choice(range(-5, 7))}",
    ]
    bars = [chord for _ in range(n_bars // 4) for chord in rng.choice(PROGRESSIONS).split()]
    return "\n".join([*lines, *(f"{number} {chord}" for number, chord in enumerate(bars, 1))]) + "\n"


def render(recipe: Recipe, folder: Path, soundfonts: Sequence[Path]) -> Path | None:
    """The song as a file in `folder`; None where MMA or FluidSynth could make nothing of it."""
    target = folder / recipe.name
    if target.exists():
        return target
    rng = random.Random(recipe.seed)
    with tempfile.TemporaryDirectory() as scratch:
        text, midi, audio = (Path(scratch) / f"song.{suffix}" for suffix in ("mma", "mid", "oga"))
        text.write_text(score(recipe), encoding="utf-8")
        sound = ["-R", str(rng.randint(0, 1)), "-C", str(rng.randint(0, 1)), "-g", f"{rng.uniform(0.3, 0.9):.2f}"]
        synth = ["fluidsynth", "-ni", *sound, "-T", "oga", "-F", str(audio), str(rng.choice(soundfonts)), str(midi)]
        try:
            for command in (["mma", "-0", str(text), "-f", str(midi)], synth):
                subprocess.run(command, capture_output=True, check=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        if not audio.exists() or audio.stat().st_size < 10_000:
            return None
        shutil.move(audio, target)
    return target


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--per-genre", type=click.IntRange(min=1), default=30, show_default=True, help="Songs of each genre.")
@click.option("--genre", "genres", type=click.Choice(list(GENRES)), multiple=True, help="Only this one. Repeatable.")
@click.option("--seconds", type=float, default=45.0, show_default=True, help="Length of a song, about.")
@click.option("--seed", type=int, default=0, show_default=True)
def synthesize(folder: Path, per_genre: int, genres: tuple[str, ...], seconds: float, seed: int) -> None:
    """Write songs of known genre, and songs.csv that names them, into FOLDER."""
    soundfonts = sorted(SOUNDFONTS.glob("[!d]*.sf2"))
    if not (shutil.which("mma") and shutil.which("fluidsynth") and soundfonts):
        packages = "mma fluidsynth fluid-soundfont-gm timgm6mb-soundfont"
        raise NothingDoneError(f"Debian packages are missing: apt-get install {packages}")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(recipes(genres or GENRES, per_genre, seconds, seed))
    with ThreadPoolExecutor(usable_cores()) as threads:
        made = threads.map(partial(render, folder=folder, soundfonts=soundfonts), wanted)
        songs = list(zip(wanted, tqdm(made, total=len(wanted), unit="song", disable=None), strict=True))
    with (folder / "songs.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "genre", "artist", "album"])
        rows.writerows([song.name, recipe.genre, recipe.style, ""] for recipe, song in songs if song is not None)
    n_failed = sum(song is None for _, song in songs)
    click.echo(f"{len(songs) - n_failed} songs in {folder}, {n_failed} could not be made")


if __name__ == "__main__":
    synthesize()
