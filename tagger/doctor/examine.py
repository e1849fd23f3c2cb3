"""Whether all that a run needs is there and works. Whatever is broken is found and named; nothing here raises.

Everything is imported inside the check that is about it: what is examined may not even be importable.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from tagger import __version__
from tagger.doctor.checks import Check, State, guarded, reinstall, requirements
from tagger.doctor.torch_probe import Machine
from tagger.extras import EXTRAS, missing
from tagger.text import duration_text

if TYPE_CHECKING:
    from tagger.audio.library import Found
    from tagger.models.genre_model import GenreModel
    from tagger.pipeline.options import TagOptions

logger = logging.getLogger(__name__)

SHOWN = ("openvino", "torch", "av", "mutagen", "numpy")  # of the libraries of tagging, those whose versions matter most
LEAST_FREE_BYTES = 100 * 2**20
AUDIOSET_MB = 350
SONG_SECONDS = 240.0  # of a usual song


@dataclass(frozen=True)
class Asked:
    """The run whose needs are looked at."""

    options: TagOptions
    #: The library; without one, speed is measured on the bundled clips.
    paths: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    with_speed: bool = True


def examine(asked: Asked) -> Iterator[Check]:
    """All checks, each as soon as it is known; the speed test last, and only where everything it needs works."""
    broken = set()
    with closing(
        Machine(asked.options.predict.device, asked.options.predict.precision)
    ) as machine:  # it takes longest, so it is begun first
        for name, look in (
            ("genre-tag", program),
            ("libraries", libraries),
            ("decoders", decoders),
            ("journal", journal),
            ("cache", cache),
            ("model", partial(model, asked.options.predict.model, asked.paths)),
            ("engines", machine.checks),
        ):
            for check in guarded(name, look):
                broken |= {name} if check.state == "problem" else set()
                yield check
    yield from guarded("library", partial(library, asked, is_able=not broken & {"decoders", "model", "engines"}))


def program() -> Iterator[Check]:
    """Versions of the program, of Python and of the system."""
    system = f"{platform.system()} {platform.machine()}"
    yield Check("ok", "genre-tag", f"{__version__} on Python {platform.python_version()}, {system}")


def libraries() -> Iterator[Check]:
    """Whether the libraries that tagging needs are there, and all that are there in versions that it can use."""
    from packaging.requirements import Requirement

    versions = {}
    for extra in ("", *(extra for extra in EXTRAS if not missing(*EXTRAS[extra]))):
        for needed in map(Requirement, requirements(extra).values() or (() if extra else SHOWN)):
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            try:
                versions[needed.name] = version = metadata.version(needed.name)
            except metadata.PackageNotFoundError:
                if not extra:
                    yield Check("problem", "libraries", f"{needed.name} is not installed", reinstall(needed.name))
                continue
            if not needed.specifier.contains(version, prereleases=True):
                wanted = f"{needed.name}{needed.specifier}"
                says = f"{needed.name} {version} is installed, needed is {wanted}"
                yield Check("warning", "libraries", says, f"pip install --force-reinstall '{wanted}'")
    found = (name for name in (*SHOWN, "transformers", "ray") if name in versions)
    yield Check("ok", "libraries", ", ".join(f"{name} {versions[name]}" for name in found))


def decoders() -> Iterator[Check]:
    """Whether every kind of song can be decoded."""
    from tagger.audio.codecs import DECODERS, ffmpeg_version, missing_decoders

    missing = missing_decoders()
    if missing:
        lacks = "; ".join(f"{suffix} ({', '.join(names)})" for suffix, names in sorted(missing.items()))
        says = f"FFmpeg {ffmpeg_version()} lacks what some songs need: {lacks}"
        yield Check("warning" if len(missing) < len(DECODERS) else "problem", "decoders", says, reinstall("av"))
    else:
        yield Check("ok", "decoders", f"FFmpeg {ffmpeg_version()} decodes all {len(DECODERS)} kinds of songs")


def journal() -> Iterator[Check]:
    """Whether there is room for a record of what is written."""
    from tagger.tags.journal import journal_folder

    yield _can_write("problem", "journal", journal_folder(), "no genre is written without a record of it")


def cache() -> Iterator[Check]:
    """Whether what is predicted can be kept."""
    from tagger.pipeline.cache import cache_path

    path, consequence = cache_path(), "every run classifies every song again"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield Check("warning", "cache", f"{path} cannot be written; {consequence}", "make it writable")
    else:
        yield _can_write("warning", "cache", path.parent, consequence)


def _can_write(state: State, name: str, folder: Path, consequence: str) -> Check:
    """Whether files can be made in a folder, or the folder itself; nothing is left behind."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"genre-tag")
        n_free = shutil.disk_usage(there).free
    except OSError as error:
        logger.debug("%s", name, exc_info=True)
        remedy = "make it writable, or name another place for state in XDG_STATE_HOME"
        return Check(state, name, f"{there} cannot be written ({error.strerror or error}); {consequence}", remedy)
    if n_free < LEAST_FREE_BYTES:
        return Check("warning", name, f"{there} has only {n_free / 2**20:.0f} MiB left", "make room on the disk")
    return Check("ok", name, f"{folder} can be {'written' if there == folder else 'made'}")


def model(name: str, paths: Sequence[str] = ()) -> Iterator[Check]:
    """Whether the model, of the library at these paths if it is one's own, can be found; nothing is fetched."""
    from tagger.audio.decode import SAMPLE_RATE
    from tagger.errors import ModelError
    from tagger.evaluation.learned import MINE, model_of
    from tagger.models.description import HUB_ID, HUB_IDS, describe

    local = local_name(name)
    if local is None and (name in HUB_IDS or HUB_ID.fullmatch(name)):
        yield Check("warning", "model", f"{name} is not on this machine", "the first run with it fetches it")
    else:
        try:
            description = describe(model_of(paths) if name == MINE else local or name)
        except ModelError as error:
            logger.debug("model", exc_info=True)
            yield Check("problem", "model", f"{name}: {error.reason}", "use --model starter, which is built in")
        else:
            seconds = description.snippet_samples // SAMPLE_RATE
            yield Check("ok", "model", f"{name}: {len(description.head.genres)} genres, snippets of {seconds} s")
    if name != "audioset":
        fetch = f"is not on this machine; --model audioset fetches it, {AUDIOSET_MB} MB"
        yield Check("ok", "audioset", "is on this machine too" if local_name("audioset") else fetch)


def local_name(name: str) -> str | None:
    """What names the same model without the hub: itself, or its folder in the hub's cache; None if it is not there."""
    from tagger.models.description import CONFIGS, HUB_IDS, STARTER

    if name == STARTER or (name not in HUB_IDS and Path(name).expanduser().exists()):
        return name
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    wanted = CONFIGS[0], "model.safetensors", "model.safetensors.index.json"
    try:
        config, *weights = (try_to_load_from_cache(HUB_IDS.get(name, name), file) for file in wanted)
    except HFValidationError:
        return None
    is_there = isinstance(config, str) and any(isinstance(file, str) for file in weights)
    return str(Path(config).parent) if is_there and isinstance(config, str) else None


def library(asked: Asked, is_able: bool) -> Iterator[Check]:
    """How many songs there are, and how long a run over them would take."""
    from tagger.audio.library import find_songs

    found = list(find_songs(asked.paths, asked.exclude))
    for each in found:
        if each.failed:
            yield Check("problem", "library", f"{each.path}: {each.problem}")
    songs = [each for each in found if not each.problem]
    if asked.paths and not songs and not any(each.failed for each in found):
        yield Check("warning", "library", "there are no songs", "name a folder of music")
    counted = f"{len(songs):,} song{'s' * (len(songs) != 1)}"
    if not asked.with_speed:
        if songs:
            yield Check("ok", "library", counted)
    elif not is_able or local_name(asked.options.predict.model) is None:
        yield Check("warning", "speed", "not measured: first see to what is said above")
    else:
        yield from guarded("speed", partial(_speed, asked, songs, counted))


def _speed(asked: Asked, songs: list[Found], counted: str) -> Iterator[Check]:
    from tagger.audio.decode import SAMPLE_RATE
    from tagger.audio.library import find_songs
    from tagger.doctor.benchmark import measure
    from tagger.models.description import describe
    from tagger.pipeline.run import load_model, machine_line

    loaded: list[GenreModel] = []

    def load() -> GenreModel:
        loaded.append(load_model(description, predict))
        return loaded[-1]

    clips = str(resources.files("tagger") / "samples")
    predict = asked.options.predict
    description = describe(local_name(predict.model) or predict.model)
    speed = measure(songs or list(find_songs([clips])), description, load, asked.options)
    if speed.n_failed:
        state: State = "warning" if speed.n_failed < speed.n_songs else "problem"
        says = f"{speed.n_failed} of {speed.n_songs} songs cannot be decoded, the first because: {speed.reason}"
        yield Check(state, "speed", says)
        if state == "problem":
            return
    yield from (Check("ok", "engine", machine_line(model, predict)) for model in loaded)
    start = f"after {duration_text(speed.start_seconds)} to start"
    if songs:
        rate = speed.n_songs / speed.seconds
        yield Check("ok", "speed", f"{rate:.2g} songs/s, {start}")
        needed = duration_text(speed.start_seconds + len(songs) / rate)
        yield Check("ok", "library", f"{counted}: {needed} or so; those that are cached take no time")
    else:
        usual = asked.options.predict.n_snippets or math.ceil(SONG_SECONDS * SAMPLE_RATE / description.snippet_samples)
        rate = speed.n_snippets / speed.seconds / usual
        yield Check("ok", "speed", f"some {rate:.2g} songs/s, to judge by the bundled clips, {start}")
