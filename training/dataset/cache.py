"""Log-mels of a dataset's snippets, computed once: for networks that are faster than they can be made again."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from tagger.models.description import FRAMES_PER_SECOND
from tagger.models.transformer import TorchLogMel
from training.dataset.songs import Watch, unwatched
from training.dataset.waveforms import Waveforms
from training.errors import DatasetError

if TYPE_CHECKING:
    from datasets import DatasetDict

FOLDER = "features"
N_MELS = 128
FRAMES_STEP = 64  # a network's input is a multiple of it
BATCH = 64
COLUMNS = ("shard", "first", "song_first", "song_samples")


def n_frames(snippet_samples: int) -> int:
    """Frames of a snippet, without padding."""
    from tagger.models.features import FRAME_HOP_SAMPLES, FRAME_SAMPLES

    return 1 + (snippet_samples - FRAME_SAMPLES) // FRAME_HOP_SAMPLES


def input_frames(snippet_samples: int) -> int:
    """Frames of the input of a network for such snippets: 1024 for 10 s as AudioSet's, 512 for 5 s, 128 for 1 s."""
    return math.ceil(snippet_samples / SAMPLE_RATE * FRAMES_PER_SECOND / FRAMES_STEP) * FRAMES_STEP


def feature_bytes(snippet_samples: int) -> int:
    """Bytes on disk of the log-mel of one snippet."""
    return 2 * N_MELS * n_frames(snippet_samples)


def cache_features(
    folder: Path, splits: DatasetDict, snippet_samples: int, fingerprint: str, watch: Watch = unwatched
) -> None:
    """Write features/SPLIT.f16: float16 (n_rows, n_frames, 128), not normalised, where they are not there yet.

    What a run that died has left is gone on with if it is of the same dataset, as told by its `fingerprint`.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    log_mel = TorchLogMel(N_MELS, n_frames(snippet_samples), mean=0.0, std=0.5).to(device)
    waveforms = Waveforms(folder)
    parts = {split: folder / FOLDER / f"{split}.{fingerprint[:16]}.part" for split in splits}
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        for path in set((folder / FOLDER).iterdir()) - set(parts.values()):
            path.unlink()
        for split, part in parts.items():
            places = splits[split].select_columns(list(COLUMNS)).to_list()
            n_done = part.stat().st_size // feature_bytes(snippet_samples) // BATCH * BATCH if part.exists() else 0
            with part.open("ab") as file:
                file.truncate(n_done * feature_bytes(snippet_samples))
                firsts = range(n_done, len(places), BATCH)
                for first in watch(firsts, f"Log-mels of {split}", len(firsts)):
                    batch = [
                        waveforms.snippet(**place, n_samples=snippet_samples) for place in places[first : first + BATCH]
                    ]
                    snippets = torch.from_numpy(np.stack(batch)).to(device).float() / FULL_SCALE
                    with torch.inference_mode():
                        file.write(log_mel(snippets).half().cpu().numpy().astype("<f2").tobytes())
        for split, part in parts.items():
            part.replace(folder / FOLDER / f"{split}.f16")
    except OSError as error:
        raise DatasetError(folder, f"cannot be written: {error.strerror or error}; the same command resumes") from error


def drop_features(folder: Path) -> None:
    """Delete what is cached."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


class Features:
    """The cached log-mels of a split, float16 (n_rows, n_frames, n_mels); cheap to hand to other processes."""

    key = "log_mels"  # of `training.learning.network.Network.forward`

    def __init__(self, path: Path, n_rows: int, n_frames: int) -> None:
        self.path, self.shape = path, (n_rows, n_frames, N_MELS)
        self._rows: np.memmap | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        """The log-mel of a row, memory-mapped, float16 (n_frames, n_mels); IndexError where there is none."""
        if self._rows is None:
            self._rows = np.memmap(self.path, "<f2", "r", shape=self.shape)
        log_mel: np.ndarray = self._rows[row]
        return log_mel

    def __reduce__(self) -> tuple[type[Features], tuple[Path, int, int]]:
        return Features, (self.path, *self.shape[:2])  # a memory map would be copied as a whole


def load_features(folder: Path, splits: DatasetDict, snippet_samples: int) -> dict[str, Features]:
    """The cached log-mels of each split; raises DatasetError when some are missing."""
    features = {}
    for split, rows in splits.items():
        path = folder / FOLDER / f"{split}.f16"
        if not path.exists() or path.stat().st_size != len(rows) * feature_bytes(snippet_samples):
            raise DatasetError(path, "missing or not whole; make it again: genre-tag prepare --cache-features --force")
        features[split] = Features(path, len(rows), n_frames(snippet_samples))
    return features
