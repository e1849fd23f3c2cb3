"""The checkpoint that comes out: it answers what was learned, whatever the model it began from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.models.checkpoint import load_checkpoint, read_last_layer
from tagger.models.description import describe
from tagger.models.genre_model import GenreModel
from tagger.pipeline.aggregate import decide, softmax, song_scores
from tests.probe.fitted import tagged_songs
from tests.support.checkpoints import AUDIOSET, make_checkpoint
from training.outcome.calibrate import MinConfidence
from training.probe.base import Base
from training.probe.checkpoint import last_layer, write_checkpoint
from training.probe.folds import STRENGTHS, Learned, Strength, fit_linear, mix
from training.probe.songs import Tagged

LEARNED = ("Jazz", "Shoegaze", "Tango music")
MODELS = {
    "softmax": {"labels": ("Classical", "Jazz", "Rock"), "training": {"temperature": 1.7, "bias": [0.1, 0.2, -0.3]}},
    "audioset": {"labels": AUDIOSET, "multi_label": True},
}


def learned_of(tagged: Tagged, strength: Strength, least: float = 0.6) -> Learned:
    regression = fit_linear(tagged.embeddings, tagged.labels, len(tagged.genres), strength.shrinkage)
    threshold = MinConfidence(least, 0.5, 0.9, "so it is")
    n_songs = len(tagged.labels)
    nothing = np.zeros((n_songs, len(tagged.genres)))
    return Learned(strength, regression, 0.8, threshold, nothing, np.zeros(n_songs, bool), 0.0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("strength", [STRENGTHS[1], STRENGTHS[-1]])
def test_it_answers_what_was_learned(tmp_path: Path, model: str, strength: Strength) -> None:
    folder = make_checkpoint(tmp_path / "model", hidden_size=10, **MODELS[model])  # type: ignore[arg-type]
    description = describe(str(folder))
    weight, bias = read_last_layer(description)
    tagged = tagged_songs(LEARNED)
    tagged = replace(tagged, logits=tagged.embeddings @ weight.T + bias)
    base = Base.of(description.head, weight, bias, tagged.genres)
    learned = learned_of(tagged, strength)
    labels = tuple(MODELS[model]["labels"])  # type: ignore[arg-type]
    layer = last_layer(learned, base, tagged, labels)
    write_checkpoint(tmp_path / "run" / "checkpoint", description, layer, learned, tagged)

    found = describe(str(tmp_path / "run"))
    assert found.head.genres[:3] == LEARNED and found.head.temperature == 0.8
    assert found.backbone == description.fingerprint != found.fingerprint
    assert found.features == description.features
    new_weight, new_bias = read_last_layer(found)
    logits = tagged.embeddings @ new_weight.T + new_bias
    expected = mix(strength, base.prior(tagged.logits), learned.regression.logits(tagged.embeddings)) / 0.8
    scores = np.stack([song_scores(row[None], found.head) for row in logits])
    np.testing.assert_allclose(softmax(scores), softmax(expected), atol=1e-5)
    assert (found.head.gate is not None) == (model == "audioset")
    if found.head.gate is not None:
        assert description.head.gate is not None
        for old, new in ((description.head.gate.music, found.head.gate.music), (0, found.head.gate.speech)):
            np.testing.assert_allclose(logits[:, new], tagged.logits[:, old], atol=1e-5)


def test_the_network_is_the_same_and_only_learned_genres_are_written(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", ("Classical", "Jazz", "Rock"), hidden_size=10)
    description = describe(str(folder))
    weight, bias = read_last_layer(description)
    tagged = tagged_songs(("Jazz", "Shoegaze"))
    tagged = replace(tagged, logits=tagged.embeddings @ weight.T + bias)
    learned = learned_of(tagged, STRENGTHS[0], least=0.0)
    base = Base.of(description.head, weight, bias, tagged.genres)
    layer = last_layer(learned, base, tagged, ("Classical", "Jazz", "Rock"))
    write_checkpoint(tmp_path / "new", description, layer, learned, tagged)

    before, after = load_checkpoint(description).weights, load_checkpoint(describe(str(tmp_path / "new"))).weights
    assert all((after[name] == before[name]).all() for name in before if not name.startswith("head."))
    model = GenreModel.load(str(tmp_path / "new"), device="cpu", precision="fp32")
    assert model.head.genres == ("Jazz", "Shoegaze", "Classical") and layer.labels == model.head.genres
    assert [decide(row[None], model.head).genres for row in 9 * np.eye(3)] == [("Jazz",), ("Shoegaze",), ()]
    snippets = np.random.default_rng(0).integers(-9000, 9000, (4, model.snippet_samples), np.int16)
    old = GenreModel.load(description, device="cpu", precision="fp32").outputs(snippets)
    expected = old.embeddings @ layer.weight.T + layer.bias
    np.testing.assert_allclose(model.logits(snippets), expected, atol=1e-4)


def test_transformers_reads_it_as_well(tmp_path: Path) -> None:
    from transformers import ASTForAudioClassification

    folder = make_checkpoint(tmp_path / "model", ("Classical", "Jazz", "Rock"), hidden_size=10)
    description = describe(str(folder))
    tagged = tagged_songs(("Jazz", "Shoegaze"))
    weight, bias = read_last_layer(description)
    tagged = replace(tagged, logits=tagged.embeddings @ weight.T + bias)
    learned = learned_of(tagged, STRENGTHS[0])
    layer = last_layer(learned, Base.of(description.head, weight, bias, tagged.genres), tagged, ("a", "b", "c"))
    write_checkpoint(tmp_path / "new", description, layer, learned, tagged)
    network = ASTForAudioClassification.from_pretrained(tmp_path / "new")
    np.testing.assert_array_equal(network.classifier.dense.weight.detach().numpy(), layer.weight)
    assert network.config.id2label == {0: "Jazz", 1: "Shoegaze", 2: "Classical"}
