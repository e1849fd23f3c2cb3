"""What two public taggers that learned from real music say of a song's snippets.

YAMNet (Plakal and Ellis 2020: AudioSet, 521 classes) and musicnn (Million Song, 50 tags). Both take less than a snippet
at once: YAMNet 0.975 s, of which every second is taken; musicnn 3 s, of which the middle is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagger.audio.decode import SAMPLE_RATE, decode
from tagger.errors import AudioError
from training.teachers.musicnn import Musicnn

YAMNET, YAMNET_CLASSES, MUSICNN = "yamnet.tflite", "yamnet_class_map.csv", "MSD_musicnn.npz"
PATCH_SAMPLES = 15_600  # what YAMNet takes at once
POOLED, LOGITS = ("global_average_pooling2d", 1024), ("dense/BiasAdd", 521)  # of its tensors, and how wide they are


@dataclass(frozen=True)
class Answers:
    """What the teachers say of the snippets of one song, one row for each, float16."""

    starts_seconds: np.ndarray
    yamnet: np.ndarray  # (n_snippets, 521) logits
    yamnet_embedding: np.ndarray  # (n_snippets, 1024), what its logits are linear in
    musicnn: np.ndarray  # (n_snippets, 50) logits
    musicnn_embedding: np.ndarray  # (n_snippets, 200), likewise


class Teachers:
    """Both taggers, from a folder with their published weights; see README.md of this folder for where to get them."""

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._yamnet: Any = Interpreter(str(folder / YAMNET), num_threads=1, experimental_preserve_all_tensors=True)
        self._yamnet.allocate_tensors()
        self._input = self._yamnet.get_input_details()[0]["index"]
        self._pooled, self._logits = (
            next(
                tensor["index"]
                for tensor in self._yamnet.get_tensor_details()
                if name in tensor["name"] and tuple(tensor["shape"]) == (1, width)
            )
            for name, width in (POOLED, LOGITS)
        )
        self._musicnn = Musicnn(folder / MUSICNN)

    def ask(self, path: Path, n_snippets: int, snippet_samples: int) -> Answers:
        """What they say of the snippets of a song; raises AudioError."""
        snippets = decode(path, n_snippets, snippet_samples)
        if snippets.unsure:
            raise AudioError(path, snippets.unsure)
        answers = [(*self._ask_yamnet(waveform), *self._ask_musicnn(waveform)) for waveform in snippets.waveforms]
        columns = (np.stack(column).astype(np.float16) for column in zip(*answers, strict=True))
        return Answers(np.array(snippets.starts_seconds), *columns)

    def _ask_yamnet(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean logits and mean embedding."""
        logits, embeddings = [], []
        for first in range(0, len(waveform) - PATCH_SAMPLES + 1, SAMPLE_RATE):
            self._yamnet.set_tensor(self._input, waveform[None, first : first + PATCH_SAMPLES])
            self._yamnet.invoke()
            logits.append(self._yamnet.get_tensor(self._logits)[0])
            embeddings.append(self._yamnet.get_tensor(self._pooled)[0])
        return np.mean(logits, axis=0), np.mean(embeddings, axis=0)

    def _ask_musicnn(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        patches = self._musicnn.patches(torch.from_numpy(waveform))
        embedding, logits = self._musicnn(patches[len(patches) // 2][None])
        return logits[0].numpy(), embedding[0].numpy()
