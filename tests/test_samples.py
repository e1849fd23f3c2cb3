"""The bundled clips are what tagger/samples/README.md says they are."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from mediafile import MediaFile

SAMPLES = Path(__file__).parents[1] / "tagger" / "samples"
MAX_BYTES = 3_000_000
TAGS_AS = {
    ".flac": "Vorbis comments",
    ".m4a": "MP4 atoms",
    ".ogg": "Vorbis comments",
    ".opus": "Vorbis comments",
}


def readme_rows() -> list[dict[str, str]]:
    """The rows of the README's table, one a clip, by column."""
    table = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    header, _, *rows = table
    return [dict(zip(header, row, strict=True)) for row in rows]


def decode(path: Path) -> tuple[np.ndarray, int]:
    """All samples of a clip, (channels, n_samples) in [-1, 1], and their rate."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="fltp")
        frames = [frame for decoded in container.decode(audio=0) for frame in resampler.resample(decoded)]
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), rate


ROWS = readme_rows()
clips = pytest.mark.parametrize("row", ROWS, ids=[row["File"] for row in ROWS])


def test_the_readme_lists_every_clip_and_no_other() -> None:
    assert sorted(row["File"] for row in ROWS) == sorted(
        path.name for path in SAMPLES.iterdir() if path.name != "README.md"
    )


def test_all_clips_together_are_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) <= MAX_BYTES


def test_every_common_format_is_there() -> None:
    assert {Path(row["File"]).suffix for row in ROWS} == {".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}


@clips
def test_clip_sounds_for_5_to_30_seconds(row: dict[str, str]) -> None:
    waveform, rate = decode(SAMPLES / row["File"])
    duration_seconds = waveform.shape[1] / rate
    assert 5 <= duration_seconds <= 30
    assert MediaFile(SAMPLES / row["File"]).length == pytest.approx(duration_seconds, abs=0.1)
    peak = np.abs(waveform).max()
    assert peak == 0 if row["Title"] == "Silence" else 0.5 < peak < 1


@clips
def test_clip_has_the_tags_that_the_readme_claims(row: dict[str, str]) -> None:
    file = MediaFile(SAMPLES / row["File"])
    assert (file.artist, file.title) == (row["Artist"], row["Title"])
    assert file.genres == (None if row["Genre tag"] == "none" else [row["Genre tag"]])
    version = getattr(file.mgfile.tags, "version", None)  # only ID3 has one
    tags_as = f"ID3v{version[0]}.{version[1]}" if version else TAGS_AS[Path(row["File"]).suffix]
    assert tags_as == row["Tags as"]


@clips
def test_clip_names_its_licence_in_the_readme_and_in_itself(row: dict[str, str]) -> None:
    assert row["Licence"] == {"FluidR3 GM": "CC0-1.0, MIT", "numpy": "CC0-1.0"}[row["Sound"]]
    assert MediaFile(SAMPLES / row["File"]).comments.startswith(row["Licence"] + ";")


def test_the_notice_of_the_sound_font_goes_with_the_clips() -> None:
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert "Copyright © 2000-2002, 2008 Frank Wen" in readme
    assert "this permission notice shall be" in readme
