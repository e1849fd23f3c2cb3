"""Songs of other people, as odd as they come: `make campaign-foreign OPTIONS=FOLDER`, the test data of a tagger, say.

Copies of all songs in the folder are written by force, one genre each. Every tag but the genre, every picture and the
decoded audio have to be the same to TagLib, ffprobe and exiftool, no reader may show an old genre, and undo has to give
back the same SHA-256. What is left alone has to keep every byte. Nothing in the folder itself is touched.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from hashlib import md5, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tagger.audio.library import SONG_SUFFIXES
from tagger.errors import TagError
from tagger.tags.genre import read_genres
from tagger.tags.journal import Journal
from tagger.tags.undo import list_runs, undo

GENRE = "Acid Jazz"
EMPTY = md5(b"").hexdigest()
View = dict[str, Any]  # what a reader shows: key → value
Views = dict[str, dict[str, dict[str, View | None]]]  # reader → before and after → name of the song → what it shows
#: What follows from the length of a tag, or tells of the file and not of what is in it; and units of one thing.
UNCOUNTED = re.compile(
    r"(\d+:)?(sourcefile|exiftool|mac:|system:|file:|composite:|.*(filesize|size|offset|datalength|padding|bitrate|crc|"
    r"checksum|unknown_id3|recordingtime|filelength|handlertype|starttime|chunk|duration|md5|unused|warning|error|free|bit_rate|seektable|position|rawheader|numpackets))",
    re.IGNORECASE,
)
IS_GENRE = re.compile(r"(?!xmp)(.*[:_.])?(genre|usergenre|gnre|com\.apple\.quicktime\.genre|tcon|tco)", re.IGNORECASE)


TAGLIB = """
import hashlib, json, sys, taglib
for path in sys.argv[1:]:
    print(end="", flush=True)
    try:
        with taglib.File(path) as file:
            pictures = [hashlib.sha256(each.data).hexdigest() for each in getattr(file, "pictures", ())]
            found = {f"picture {i}": each for i, each in enumerate(pictures)}
            found |= {f"unsupported {each}": each for each in file.unsupported if each != "UNKNOWN/TCON"}
            print(json.dumps({**file.tags, **found}), flush=True)
    except (OSError, ValueError):
        print("null", flush=True)
"""


def taglib_views(paths: list[Path]) -> dict[str, View | None]:
    """What TagLib shows of each file, in a process of its own, which some files bring down."""
    found: dict[str, View | None] = {}
    while rest := [path for path in paths if path.name not in found]:
        done = subprocess.run([sys.executable, "-c", TAGLIB, *map(str, rest)], capture_output=True)
        shown = [json.loads(line) for line in done.stdout.splitlines()]
        found |= {path.name: view for path, view in zip(rest, shown, strict=False)}
        if len(shown) < len(rest):
            found[rest[len(shown)].name] = None
    return found


def ffprobe_view(path: Path) -> View | None:
    """What ffprobe shows of the file and its streams; None for what it cannot open."""
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-show_chapters", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        return None
    found = json.loads(done.stdout)
    view: View = {f"format:{key}": value for key, value in found.get("format", {}).get("tags", {}).items()}
    for number, stream in enumerate(found.get("streams", [])):
        view |= {f"stream {number}:{key}": value for key, value in stream.get("tags", {}).items()}
        view |= {
            f"stream {number}/{key}": stream.get(key) for key in ("codec_name", "sample_rate", "channels", "width")
        }
    return {**view, "chapters": found.get("chapters")}


def exiftool_views(folder: Path) -> dict[str, View | None]:
    """What exiftool shows of each file in a folder, pictures as bytes."""
    command = ["exiftool", "-json", "-a", "-u", "-b", "-G1:4", "-r", "-charset", "filename=utf8", str(folder)]
    done = subprocess.run(command, capture_output=True)
    return {Path(view["SourceFile"]).name: view for view in json.loads(done.stdout or b"[]")}


def decoded(path: Path) -> str:
    """Digest of what FFmpeg decodes, and "" where it does not."""
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-map", "0:a:0", "-f", "md5", "-"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return "" if done.returncode or EMPTY in done.stdout else done.stdout


def genres(view: View) -> list[str]:
    """The genres a reader shows."""
    found = [value for key, value in view.items() if IS_GENRE.fullmatch(key)]
    return [
        part
        for value in found
        for each in (value if isinstance(value, list) else [value])
        for part in str(each).split(";")
    ]


def others(view: View) -> dict[str, str]:
    """All else that it shows."""
    return {k: str(v) for k, v in view.items() if not UNCOUNTED.match(k) and not IS_GENRE.fullmatch(k)}


def missing(was: View, now: View) -> dict[str, str]:
    """What a reader no longer shows, under whatever key: what one tag says may have been copied to a better one."""
    before, after = others(was), others(now)
    left = Counter(value.strip() for key, value in after.items() if before.get(key) != value)
    lost = {}
    for key, value in before.items():
        if after.get(key) != value:
            if not left[value.strip()]:
                lost[key] = value
            left[value.strip()] -= 1
    return lost


def readers() -> dict[str, Callable[[list[Path]], dict[str, View | None]]]:
    """Those that are installed: each shows what is in files of one folder."""
    found: dict[str, Callable[[list[Path]], dict[str, View | None]]] = {}
    if find_spec("taglib"):
        found["TagLib"] = taglib_views
    if shutil.which("ffprobe"):
        found["ffprobe"] = lambda paths: {path.name: ffprobe_view(path) for path in paths}
    if shutil.which("exiftool"):
        found["exiftool"] = lambda paths: exiftool_views(paths[0].parent) if paths else {}
    return found


class Campaign:
    """One pass over the songs below a folder."""

    def __init__(self, source: Path, scratch: Path) -> None:
        self.source, self.library, self.state = source, scratch / "library", scratch / "state"
        self.library.mkdir()
        self.readers = readers()
        self.rows: dict[str, Counter[str]] = defaultdict(Counter)
        self.findings: list[str] = []
        self.reasons: Counter[str] = Counter()
        self.groups: dict[str, str] = {}
        self.paths: dict[str, Path] = {}

    def views(self, names: Iterable[str]) -> dict[str, dict[str, View | None]]:
        """reader → name of the song → what it shows."""
        paths = [self.library / name for name in names]
        return {reader: view(paths) for reader, view in self.readers.items()}

    def copy(self) -> dict[str, bytes]:
        """Copies of all songs, under names of their own, and their bytes."""
        found = sorted(p for p in self.source.rglob("*") if p.suffix.lower() in SONG_SUFFIXES and p.is_file())
        old = {}
        for number, path in enumerate(found):
            name = f"{number}{path.suffix.lower()}"
            self.groups[name] = path.relative_to(self.source).parts[0] if path.parent != self.source else "."
            old[name] = path.read_bytes()
            (self.library / name).write_bytes(old[name])
            self.paths[name] = path
        return old

    def run(self) -> None:
        """Write all, compare, take back."""
        old = self.copy()
        before = self.views(old)
        written = []
        with Journal.open(self.library, [], self.state) as journal:
            for name in old:
                row = self.rows[self.groups[name]]
                row["songs"] += 1
                try:
                    is_written = journal.write_genres(self.library / name, [GENRE])
                    row["written" if is_written else "unchanged"] += 1
                    written += [name] if is_written else []
                except TagError as error:
                    row["refused" if error.refused else "skipped"] += 1
                    self.reasons[error.reason] += 1
                    self.findings += [f"{name} {self.paths[name]}: left alone: {error.reason}"]
                    assert (self.library / name).read_bytes() == old[name], name
        after = self.views(written)
        for name in written:
            self.compare(name, before, after)
        if written:
            (run,) = list_runs(self.state)
            with Journal.open(self.library, [], self.state) as journal:
                assert {undone.result for undone in undo(run, journal)} == {"bytes"}
        for name, data in old.items():
            assert sha256((self.library / name).read_bytes()).digest() == sha256(data).digest(), name
            self.rows[self.groups[name]]["undone"] += name in written

    def compare(
        self, name: str, before: dict[str, dict[str, View | None]], after: dict[str, dict[str, View | None]]
    ) -> None:
        """What each reader shows of one song, and its audio."""
        row = self.rows[self.groups[name]]
        if read_genres(self.library / name) != (GENRE,):
            self.found(name, "the genre does not come back")
        for reader in after:
            was, now = before[reader].get(name), after[reader].get(name)
            if was is None or now is None:
                if was is not None:
                    self.found(name, f"{reader} cannot open it any more")
                continue
            row[reader] += 1
            if lost := missing(was, now):
                shown = {key: (value[:60], others(now).get(key, "")[:60]) for key, value in lost.items()}
                self.found(name, f"{reader} shows otherwise: {shown}")
            stale = [genre for genre in genres(now) if genre.casefold() not in (GENRE.casefold(), "")]
            if stale or (genres(was) and not genres(now)):
                self.found(name, f"{reader} shows the genres {genres(now)}, before {genres(was)}")
            row["genre seen"] += bool(genres(now)) and not stale
        if shutil.which("ffmpeg") and (samples := decoded(self.paths[name])):
            row["audio"] += 1
            if decoded(self.library / name) != samples:
                self.found(name, "the decoded audio differs")

    def found(self, name: str, what: str) -> None:
        """Remember what should not be."""
        self.rows[self.groups[name]]["findings"] += 1
        self.findings.append(f"{name} {self.paths[name]}: {what}")


def main() -> None:
    """Try all the songs below a folder, and print what was found, by its subfolders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reasons", action="store_true", help="say why each song was left alone")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        campaign = Campaign(options.folder, Path(scratch))
        campaign.run()
    for finding in campaign.findings:
        if options.reasons or ": left alone: " not in finding:
            print(finding)
    columns = ["songs", "written", "unchanged", "refused", "skipped", *campaign.readers, "audio", "undone", "findings"]
    print(f"{'':28}" + "".join(f"{column:>10}" for column in columns))
    total = sum(campaign.rows.values(), Counter[str]())
    for group, row in [*sorted(campaign.rows.items()), ("all", total)]:
        print(f"{group[:27]:28}" + "".join(f"{row[column]:>10}" for column in columns))
    for reason, number in sorted(campaign.reasons.items(), key=lambda each: -each[1]):
        if number:
            print(f"{number:4} left alone: {reason}")
    print(f"{time.monotonic() - start:.0f} s; {total['written']} written, {total['undone']} undone to the same SHA-256")
    sys.exit(bool(total["findings"]))


if __name__ == "__main__":
    main()
