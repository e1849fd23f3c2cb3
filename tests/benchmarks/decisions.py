"""Whether an engine's rounding changes what is decided: on real songs, beside transformers in fp32.

    python -m tests.benchmarks.decisions FOLDER

The songs of FOLDER are decoded once. The reference is `ASTFeatureExtractor` and `ASTForAudioClassification`, which
share no code with the engine; the decisions on its logits are those of the program. What differs is counted, and how
much of it lay within 0.01 of a threshold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import ASTForAudioClassification

from tagger.audio.decode import as_int16, decode
from tagger.audio.library import find_songs
from tagger.errors import AudioError
from tagger.models.description import describe
from tagger.models.genre_model import GenreModel
from tagger.pipeline.aggregate import Decision, decide
from tests.benchmarks.tagging import extractor_of

N_SNIPPETS = 5
PRECISIONS = ("fp32", "bf16")
NEAR = 0.01  # of a threshold


def waveforms_of(folder: Path, snippet_samples: int) -> Iterator[np.ndarray]:
    """The snippets of each song that can be decoded and is not silent, int16 (n_snippets, snippet_samples)."""
    for found in find_songs([str(folder)]):
        try:
            snippets = decode(found.path, N_SNIPPETS, snippet_samples)
        except (AudioError, OSError):
            continue
        if not found.problem and len(snippets.waveforms):
            yield as_int16(snippets.waveforms)


def is_near(decision: Decision) -> bool:
    """Whether the confidence of the best genre lies next to its threshold."""
    return bool(decision.ranking) and abs(decision.confidence - decision.needed[0]) <= NEAR


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.decisions", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="starter")
    given = parser.parse_args()
    description = describe(given.model)
    extract = extractor_of(description)
    network = ASTForAudioClassification.from_pretrained(description.folder, attn_implementation="eager").float().eval()
    models = {each: GenreModel.load(given.model, "cpu", each) for each in PRECISIONS}
    n_songs, differ, near, other_best = 0, dict.fromkeys(models, 0), dict.fromkeys(models, 0), dict.fromkeys(models, 0)
    farthest = dict.fromkeys(models, 0.0)
    for waveforms in waveforms_of(given.folder, description.snippet_samples):
        with torch.inference_mode():
            expected = network(torch.from_numpy(extract(waveforms))).logits.numpy()
        theirs = decide(expected, description.head)
        n_songs += 1
        for name, model in models.items():
            logits = model.logits(waveforms)
            ours = decide(logits, description.head)
            farthest[name] = max(farthest[name], float(np.abs(logits - expected).max()))
            other_best[name] += ours.ranking[0][0] != theirs.ranking[0][0]
            if ours.genres != theirs.genres:
                differ[name] += 1
                near[name] += is_near(theirs)
    for name in models:
        print(
            f"{name}: of {n_songs} songs {differ[name]} are decided otherwise, {near[name]} of these within {NEAR} of a"
            f" threshold; {other_best[name]} have another best genre; logits differ by {farthest[name]:.3g} at most"
        )


if __name__ == "__main__":
    main()
