"""musicnn (Pons and Serra 2019, "musicnn: pre-trained convolutional neural networks for music audio tagging") in torch.

Runs the variables of the published Million Song checkpoint, converted to one array each (`MSD_musicnn.npz`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SAMPLE_RATE = 16_000
N_FRAMES = 187  # of 16 ms: a patch of 3 s
N_MELS = 96
EPSILON = 1e-3  # of its batch norms
#: Names of what it answers, in its order, spelled as there.
TAGS = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock",
    "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow",
    "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient",
    "acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening",
    "sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House",
    "happy",
)  # fmt: skip


class Musicnn:
    """Patches of log-mels to logits of 50 tags; their names are TAGS."""

    def __init__(self, variables: Path) -> None:
        from torchaudio.transforms import MelSpectrogram

        with np.load(variables) as arrays:
            self._v = {name.replace("|", "/"): torch.tensor(arrays[name]) for name in arrays.files}
        self._mel = MelSpectrogram(
            SAMPLE_RATE, 512, hop_length=256, n_mels=N_MELS, norm="slaney", mel_scale="slaney", power=2.0
        )

    def patches(self, waveform: torch.Tensor) -> torch.Tensor:
        """A waveform (n_samples,) at 16 kHz to all whole patches of it, (n_patches, 187, 96)."""
        log_mel = torch.log10(10_000 * self._mel(waveform).T.half().float() + 1)
        return log_mel[: len(log_mel) // N_FRAMES * N_FRAMES].reshape(-1, N_FRAMES, N_MELS)

    @torch.inference_mode()
    def __call__(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches (batch, 187, 96) to embeddings (batch, 200) and logits (batch, 50)."""
        x = self._norm(patches[:, None], 0)
        timbres = [self._norm(self._convolved(F.pad(x, (0, 0, 3, 3)), i), i + 1).amax(3) for i in (0, 1)]
        rhythms = [
            self._norm(self._convolved(F.pad(x, (0, 0, (n - 1) // 2, n - 1 - (n - 1) // 2)), i), i + 1).amax(3)
            for i, n in ((2, 128), (3, 64), (4, 32))
        ]
        first = torch.cat([*timbres, *rhythms], 1)  # (batch, 561, 187)
        a = self._dense_in_time(first, 5)
        b = self._dense_in_time(a, 6) + a
        c = self._dense_in_time(b, 7) + b
        features = torch.cat([first, a, b, c], 1)
        pooled = self._norm(torch.stack([features.amax(2), features.mean(2)], -1).flatten(1), 9)
        embedding = self._norm(F.relu(pooled @ self._v["dense/kernel"] + self._v["dense/bias"]), 10)
        return embedding, embedding @ self._v["dense_1/kernel"] + self._v["dense_1/bias"]

    def _norm(self, x: torch.Tensor, i: int) -> torch.Tensor:
        name = "batch_normalization" + (f"_{i}" if i else "")
        shape = [1, -1] + [1] * (x.dim() - 2)
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (self._v[f"{name}/{part}"].view(shape) for part in parts)
        return (x - mean) / torch.sqrt(variance + EPSILON) * gamma + beta

    def _convolved(self, x: torch.Tensor, i: int) -> torch.Tensor:
        name = "conv2d" + (f"_{i}" if i else "")
        kernel = self._v[f"{name}/kernel"].permute(3, 2, 0, 1).contiguous()
        return F.relu(F.conv2d(x, kernel, self._v[f"{name}/bias"]))

    def _dense_in_time(self, x: torch.Tensor, i: int) -> torch.Tensor:
        kernel = self._v[f"conv2d_{i}/kernel"][:, :, 0, :].permute(2, 1, 0).contiguous()
        return self._norm(F.relu(F.conv1d(F.pad(x, (3, 3)), kernel, self._v[f"conv2d_{i}/bias"])), i + 1)
