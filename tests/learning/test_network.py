"""Where a network begins, and how snippets become a loss."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import ASTConfig, ASTForAudioClassification

from tagger.audio.decode import SAMPLE_RATE
from tagger.errors import ModelError
from tagger.models.description import snippet_seconds
from tagger.models.transformer import TorchLogMel
from tests.support.checkpoints import AUDIOSET, GENRES, make_checkpoint
from training.learning.config import NEW_MODELS, TrainConfig, configure
from training.learning.loader import IGNORED
from training.learning.muon import Muon
from training.learning.network import Network, begin, bytes_per_snippet, device_batch, free_memory, parameter_groups

N_FRAMES = 128
PLAIN = {"augment_p": 0.0, "mixup": 0.0, "patchout": 0.0, "label_smoothing": 0.0, "ema": 0.0}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint", n_frames=N_FRAMES)


def network(
    checkpoint: Path, recipe: str = "seed", class_weights: torch.Tensor | None = None, n_classes: int = 0, **options
) -> Network:
    config = configure(recipe, model=str(checkpoint), **options)
    ast, log_mel, _ = begin(config, GENRES)
    return Network(ast, log_mel, config, class_weights, n_classes)


def snippets(n: int, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal((n, 16_000))
    return torch.from_numpy((noise * 3000).astype(np.int16))


def test_a_checkpoint_of_audiosets_structure_gives_its_body_and_a_new_head(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "audioset", AUDIOSET, n_frames=N_FRAMES)
    ast, log_mel, knows = begin(TrainConfig(model=str(folder)), ("Rock", "Jazz"))
    from transformers import ASTForAudioClassification

    source = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32)
    body, theirs = ast.audio_spectrogram_transformer.state_dict(), source.audio_spectrogram_transformer.state_dict()
    assert all(torch.equal(body[name], theirs[name]) for name in theirs)
    assert torch.equal(ast.classifier.layernorm.weight, source.classifier.layernorm.weight)
    assert ast.classifier.dense.weight.shape == (2, 16) and not knows
    assert ast.config.id2label == {0: "Rock", 1: "Jazz"} and ast.config.label2id == {"Rock": 0, "Jazz": 1}
    assert ast.config.hidden_dropout_prob == ast.config.attention_probs_dropout_prob == 0.0
    assert log_mel.n_frames == N_FRAMES
    assert {parameter.dtype for parameter in ast.parameters()} == {torch.float32}


@pytest.mark.parametrize("model", ["checkpoint", "new-micro"])
def test_dropout_is_as_asked_for_and_only_in_training(checkpoint: Path, model: str) -> None:
    name = str(checkpoint) if model == "checkpoint" else model
    config = TrainConfig(model=name, augment_p=0.0, hidden_dropout=0.1, attention_dropout=0.2)
    ast, log_mel, _ = begin(config, GENRES)
    assert (ast.config.hidden_dropout_prob, ast.config.attention_probs_dropout_prob) == (0.1, 0.2)
    rates = {module.p for module in ast.modules() if isinstance(module, torch.nn.Dropout)}
    assert 0.1 in rates
    network, waveforms = Network(ast, log_mel, config, None), snippets(2)
    labels = torch.tensor([0, 1])
    one, other = (network.train()(waveforms, labels=labels)["logits"] for _ in range(2))
    assert not torch.equal(one, other)
    one, other = (network.eval()(waveforms)["logits"] for _ in range(2))
    assert torch.equal(one, other)


def test_another_length_keeps_the_middle_positions_or_stretches_them_and_is_warned_of(checkpoint: Path) -> None:
    told: list[str] = []
    whole = begin(TrainConfig(model=str(checkpoint)), GENRES, tell=told.append)[0]
    assert not told
    positions = whole.audio_spectrogram_transformer.embeddings.position_embeddings
    n_time = (128 - 16) // 16 + 1
    grid = positions[0, 2:].reshape(-1, n_time, positions.shape[-1])
    for n_frames in (64, 256):
        ast, log_mel, _ = begin(TrainConfig(model=str(checkpoint), max_length=n_frames), GENRES, tell=told.append)
        assert told.pop().startswith(f"--max-length {n_frames}: {checkpoint} was trained on 128 frames, and is less")
        assert log_mel.n_frames == ast.config.max_length == n_frames
        own = ast.audio_spectrogram_transformer.embeddings.position_embeddings
        found = own[0, 2:].reshape(len(grid), n_frames // 16, -1)
        assert torch.equal(own[:, :2], positions[:, :2])
        if n_frames == 64:
            torch.testing.assert_close(found, grid[:, 2:6])
        else:
            torch.testing.assert_close(found.mean(dim=1), grid.mean(dim=1))
        assert ast(torch.zeros(1, n_frames, 128)).logits.shape == (1, 3)
    assert begin(TrainConfig(model="new-micro", max_length=80), GENRES, tell=told.append)[1].n_frames == 80
    assert not told


def test_a_head_that_knows_the_genres_is_kept_in_their_order(checkpoint: Path) -> None:
    ast, _, knows = begin(TrainConfig(model=str(checkpoint)), GENRES)
    turned, _, still_knows = begin(TrainConfig(model=str(checkpoint)), GENRES[::-1])
    assert knows and still_knows
    assert torch.equal(turned.classifier.dense.weight, ast.classifier.dense.weight.flip(0))
    assert turned.config.id2label == dict(enumerate(GENRES[::-1]))


def test_a_head_of_as_many_other_genres_begins_again(checkpoint: Path) -> None:
    known = begin(TrainConfig(model=str(checkpoint)), GENRES)[0]
    ast, _, knows = begin(TrainConfig(model=str(checkpoint)), ("Polka", "Samba", "Ska"))
    assert not knows
    assert not torch.equal(ast.classifier.dense.weight, known.classifier.dense.weight)
    again = begin(TrainConfig(model=str(checkpoint)), ("Polka", "Samba", "Ska"))[0]
    assert torch.equal(ast.classifier.dense.weight, again.classifier.dense.weight)
    other = begin(TrainConfig(model=str(checkpoint), seed=1), ("Polka", "Samba", "Ska"))[0]
    assert not torch.equal(ast.classifier.dense.weight, other.classifier.dense.weight)


@pytest.mark.parametrize("genres", [GENRES, ("Rock", "Jazz")])
def test_an_index_that_names_a_pickle_is_refused(checkpoint: Path, genres: tuple[str, ...]) -> None:
    index = {"metadata": {}, "weight_map": {"classifier.dense.bias": "model.bin"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00001.safetensors")
    torch.save({"classifier.dense.bias": torch.zeros(3)}, checkpoint / "model.bin")
    with pytest.raises(ModelError, match="only safetensors are read"):
        begin(TrainConfig(model=str(checkpoint)), genres)


def test_weights_that_are_no_numbers_are_an_error(checkpoint: Path) -> None:
    from transformers import ASTForAudioClassification

    ast = ASTForAudioClassification.from_pretrained(checkpoint)
    torch.nn.init.constant_(ast.audio_spectrogram_transformer.layernorm.weight, float("nan"))
    ast.save_pretrained(checkpoint)
    with pytest.raises(ModelError, match="NaN or infinite"):
        begin(TrainConfig(model=str(checkpoint)), GENRES)


def test_positions_that_come_out_zero_are_an_error(checkpoint: Path) -> None:
    config = (checkpoint / "config.json").read_text()
    (checkpoint / "config.json").write_text(config.replace(f'"max_length": {N_FRAMES}', '"max_length": 256'))
    extractor = (checkpoint / "preprocessor_config.json").read_text()
    longer = extractor.replace(f'"max_length": {N_FRAMES}', '"max_length": 256')
    (checkpoint / "preprocessor_config.json").write_text(longer)
    with pytest.raises(ModelError, match=r"position"):
        begin(TrainConfig(model=str(checkpoint)), ("Rock", "Jazz"))


def test_positions_that_were_saved_as_zero_are_an_error(checkpoint: Path) -> None:
    from transformers import ASTForAudioClassification

    ast = ASTForAudioClassification.from_pretrained(checkpoint)
    torch.nn.init.zeros_(ast.audio_spectrogram_transformer.embeddings.position_embeddings)
    ast.save_pretrained(checkpoint)
    with pytest.raises(ModelError, match="position embeddings are all zero"):
        begin(TrainConfig(model=str(checkpoint)), GENRES)


@pytest.mark.parametrize("name", NEW_MODELS)
def test_a_new_network_has_positions_and_the_size_it_says(name: str) -> None:
    ast, log_mel, knows = begin(TrainConfig(model=name), GENRES)
    n_millions = sum(parameter.numel() for parameter in ast.parameters()) / 1e6
    assert n_millions == pytest.approx(
        {"new-micro": 0.48, "new-mini": 1.93, "new-tiny": 5.5, "new-small": 21.6}[name], rel=0.03
    )
    assert ast.audio_spectrogram_transformer.embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.1)
    assert log_mel.n_frames == (128 if name == "new-micro" else 1024) and not knows


@pytest.mark.parametrize(("seconds", "n_frames"), [(1, 128), (5, 512), (10, 1024), (27, 2752), (60, 6016)])
def test_a_new_network_classifies_the_snippets_of_the_dataset(seconds: int, n_frames: int) -> None:
    _, log_mel, _ = begin(TrainConfig(model="new-micro"), GENRES, seconds * SAMPLE_RATE)
    assert log_mel.n_frames == n_frames and snippet_seconds(n_frames) == seconds


def test_head_only_learns_nothing_else(checkpoint: Path) -> None:
    net = network(checkpoint, head_only=True)
    learning = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert learning == {f"ast.classifier.{part}" for part in
                        ("layernorm.weight", "layernorm.bias", "dense.weight", "dense.bias")}  # fmt: skip


def test_logits_are_those_of_the_product(checkpoint: Path) -> None:
    from tagger.models.genre_model import GenreModel

    net = network(checkpoint, "v2").eval()
    waveforms = snippets(3)
    expected = GenreModel.load(str(checkpoint), "cpu", "fp32").logits(waveforms.numpy())
    with torch.no_grad():
        answer = net(waveforms, labels=torch.tensor([0, 1, 2]))
    np.testing.assert_allclose(answer["logits"].numpy(), expected, atol=1e-5)
    assert answer["loss"].item() == pytest.approx(F.cross_entropy(answer["logits"], torch.tensor([0, 1, 2])).item())


def test_cached_log_mels_are_waveforms(checkpoint: Path) -> None:
    net = network(checkpoint).eval()
    waveforms = snippets(2)
    n_real = 1 + (16_000 - 400) // 160
    cached = TorchLogMel(n_frames=n_real, mean=0.0, std=0.5)(waveforms.float() / 32_768).half()
    with torch.no_grad():
        prediction, recalled = net(waveforms)["logits"], net(log_mels=cached)["logits"]
    np.testing.assert_allclose(recalled, prediction, atol=0.01 * float(prediction.std()) + 1e-3)


def test_class_weights_are_those_of_the_notebook(checkpoint: Path) -> None:
    weights = torch.tensor([0.2, 1.0, 3.0])
    net = network(checkpoint, class_weights=weights, **PLAIN)
    labels = torch.tensor([0, 1, 2, 0])
    answer = net.train()(snippets(4), labels=labels)
    expected = torch.nn.CrossEntropyLoss(weight=weights)(answer["logits"], labels)
    assert answer["loss"].item() == pytest.approx(expected.item())


def gradients(net: Network) -> dict[str, torch.Tensor]:
    """Of all weights, and none of them afterwards."""
    found = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}
    net.zero_grad()
    return found


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 4, 1), (1,) * 9])
@pytest.mark.parametrize(
    ("options", "is_soft"), [({}, False), ({"label_smoothing": 0.2}, False), ({"soft_weight": 0.4}, True)]
)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    checkpoint: Path, sizes: tuple[int, ...], options: dict[str, float], is_soft: bool, is_weighted: bool
) -> None:
    class_weights = torch.tensor([0.2, 1.0, 3.0]) if is_weighted else None
    net = network(checkpoint, class_weights=class_weights, n_classes=2 * is_soft, **PLAIN | options).train()
    batch = {"waveforms": snippets(9), "labels": torch.tensor([0, 0, 0, 2, 1, 0, 2, 2, 1])}
    if is_soft:
        batch |= {name: columns.repeat(3, 1)[:9] for name, columns in SOFT.items()}
    net(**batch)["loss"].backward()
    whole = gradients(net)
    weight = net.weight(batch["labels"])
    parts = zip(*(torch.split(column, sizes) for column in batch.values()), strict=True)
    for part in parts:
        net(**dict(zip(batch, part, strict=True)), num_items_in_batch=weight)["loss"].backward()
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_soft", [False, True])
def test_snippets_that_only_fill_a_batch_count_for_nothing(checkpoint: Path, is_soft: bool) -> None:
    net = network(checkpoint, class_weights=torch.tensor([0.2, 1.0, 3.0]), n_classes=2 * is_soft, **PLAIN).train()
    batch = {"waveforms": snippets(4), "labels": LABELS} | (SOFT if is_soft else {})
    expected = net(**{name: column[:3] for name, column in batch.items()})["loss"]
    batch["labels"] = torch.tensor([0, 1, 2, IGNORED])
    assert net(**batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    nothing = net(snippets(2), labels=torch.tensor([IGNORED] * 2), num_items_in_batch=torch.tensor([4.0, 4.0]))
    assert nothing["loss"].item() == 0.0


def partners(into: list[int], kept: list[float], labels: list[int], **soft: torch.Tensor) -> dict[str, torch.Tensor]:
    """Snippets that others are mixed with, as `SnippetDataset` gives them."""
    columns = {"waveforms": snippets(len(into), seed=9), "labels": torch.tensor(labels), **soft}
    return columns | {"into": torch.tensor(into), "kept": torch.tensor(kept)}


def test_label_smoothing_and_mixup_change_the_loss_in_training_only(checkpoint: Path) -> None:
    labels, waveforms = torch.tensor([0, 1, 2, 0]), snippets(4)
    plain = network(checkpoint, **PLAIN)(waveforms, labels=labels)["loss"].item()
    smoothed = network(checkpoint, **PLAIN | {"label_smoothing": 0.3})
    mixed = network(checkpoint, **PLAIN | {"mixup": 1.0})
    others = partners([1, 2], [0.3, 0.6], [0, 1])
    assert smoothed.train()(waveforms, labels=labels)["loss"].item() != pytest.approx(plain)
    assert mixed.train()(waveforms, labels=labels, partners=others)["loss"].item() != pytest.approx(plain)
    assert smoothed.eval()(waveforms, labels=labels)["loss"].item() == pytest.approx(plain)
    assert mixed.eval()(waveforms, labels=labels, partners=others)["loss"].item() == pytest.approx(plain)


SOFT = {
    "soft_known": torch.tensor([[1.0], [0.0], [1.0], [1.0]]),
    "soft_genres": torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]]),
    "soft_classes": torch.tensor([[1.0, -1.0], [9.0, 9.0], [0.5, 0.0], [-2.0, 1.0]]),
}
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(("weight", "smoothing"), [(0.0, 0.0), (0.25, 0.0), (1.0, 0.0), (0.5, 0.3)])
def test_soft_labels_are_mixed_into_the_target_where_they_are_known(
    checkpoint: Path, weight: float, smoothing: float
) -> None:
    class_weights = torch.tensor([0.2, 1.0, 3.0])
    options = PLAIN | {"label_smoothing": smoothing, "soft_weight": weight}
    net = network(checkpoint, class_weights=class_weights, **options)
    known = {name: SOFT[name] for name in ("soft_known", "soft_genres")}
    answer = net.train()(snippets(4), labels=LABELS, **known)
    expected = 0.0
    for row, log_shares in enumerate(answer["logits"].log_softmax(1).tolist()):
        share = weight if row != 1 else 0.0  # the row without soft labels
        for genre in range(3):
            hard = (1 - smoothing) * (genre == LABELS[row].item()) + smoothing / 3
            target = (1 - share) * hard + share * SOFT["soft_genres"][row, genre].item()
            expected -= class_weights[genre].item() * target * log_shares[genre] / 4
    assert answer["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_the_teachers_classes_add_their_squared_error_where_they_are_known(checkpoint: Path) -> None:
    net = network(checkpoint, n_classes=2, **PLAIN | {"auxiliary_weight": 0.7})
    waveforms = snippets(4)
    plain = net.train()(waveforms, labels=LABELS)["loss"].item()
    classes = {name: SOFT[name] for name in ("soft_known", "soft_classes")}
    answer = net(waveforms, labels=LABELS, **classes)
    pooled = net.ast.audio_spectrogram_transformer(net._features({"waveforms": waveforms})).pooler_output
    errors = (net.auxiliary(pooled) - SOFT["soft_classes"]).square()
    auxiliary = (errors[[0, 2, 3]].sum() / 2 / 4).item()  # over two classes and four snippets, one of which has none
    assert answer["loss"].item() == pytest.approx(plain + 0.7 * auxiliary, rel=1e-5)
    assert net.losses[-1].tolist() == pytest.approx([plain, auxiliary], rel=1e-5)
    answer["loss"].backward()
    assert net.auxiliary.weight.grad.abs().sum() > 0
    assert "auxiliary.weight" in net.state_dict() and not any("auxiliary" in name for name in net.trained.state_dict())


def test_mixup_mixes_soft_labels_like_snippets(checkpoint: Path) -> None:
    net = network(checkpoint, n_classes=2, **PLAIN | {"mixup": 1.0, "soft_weight": 1.0}).train()
    torch.nn.init.zeros_(net.auxiliary.weight)  # so that the error is the target's square
    torch.nn.init.zeros_(net.auxiliary.bias)
    soft = {name: columns[[1, 3, 0]] for name, columns in SOFT.items()}
    others = partners([0, 2, 3], [0.3, 0.6, 0.9], [1, 0, 0], **soft)
    waveforms = snippets(4)
    answer = net(waveforms, labels=LABELS, **SOFT, partners=others)
    rows = torch.cat([net._features({"waveforms": waveforms}), net._features(others)])
    shares = torch.zeros(4, 7)
    shares[[0, 1, 2, 3], [0, 1, 2, 3]] = torch.tensor([0.3, 1.0, 0.6, 0.9])
    shares[[0, 2, 3], [4, 5, 6]] = torch.tensor([0.7, 0.4, 0.1])
    logits = net.ast(torch.einsum("no,ofm->nfm", shares, rows)).logits
    torch.testing.assert_close(answer["logits"], logits, rtol=1e-4, atol=1e-5)
    genres = torch.cat([SOFT["soft_genres"], SOFT["soft_genres"][[1, 3, 0]]])
    genres[[1, 4]] = F.one_hot(torch.tensor([1, 1]), 3).float()  # those without soft labels
    genre_loss = -(shares @ genres * logits.log_softmax(1)).sum(1).mean()
    classes = torch.cat([SOFT["soft_classes"], SOFT["soft_classes"][[1, 3, 0]]])
    is_known = torch.tensor([0.0, 0.0, 1.0, 1.0])  # the first is mixed with one without
    auxiliary = ((shares @ classes).square().mean(1) * is_known).mean()
    assert net.losses[-1].tolist() == pytest.approx([genre_loss.item(), auxiliary.item()], rel=1e-4)


def test_soft_labels_are_not_classified_in_evaluation(checkpoint: Path) -> None:
    net = network(checkpoint, n_classes=2, **PLAIN).eval()
    waveforms = snippets(4)
    assert net(waveforms, labels=LABELS, **SOFT)["loss"] == net(waveforms, labels=LABELS)["loss"]
    assert not net.losses


def test_the_running_mean_follows_the_weights_and_is_what_answers(checkpoint: Path) -> None:
    net = network(checkpoint, **PLAIN | {"ema": 0.9})
    weight, mean = net.ast.classifier.dense.bias, net.trained.classifier.dense.bias
    expected = weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            weight += 1.0
        net.update_average()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(mean.detach(), expected)
    waveforms = snippets(2)
    with torch.no_grad():
        evaluated, trained = net.eval()(waveforms), net.train()(waveforms, labels=torch.tensor([0, 1]))
    assert not torch.allclose(evaluated["logits"], trained["logits"])
    assert not any(parameter.requires_grad for parameter in net.trained.parameters())
    assert {f"average.{name}" for name, _ in net.trained.named_parameters()} <= set(net.state_dict())


class Waits(TorchDispatchMode):
    """Counts where a GPU would have to be waited for: each number that Python asks a tensor for."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


def test_a_step_waits_for_no_number_of_the_device(checkpoint: Path) -> None:
    config = configure("v2", model=str(checkpoint), optimizer="muon", time_mask=10, frequency_mask=10)
    ast, log_mel, _ = begin(config, GENRES)
    net = Network(ast, log_mel, config, None, 2).train()
    optimizer = Muon(parameter_groups(net, config), lr=1e-3)
    others = partners([1, 2], [0.3, 0.6], [0, 1], **{name: columns[:2] for name, columns in SOFT.items()})
    n_waits = {}
    with Waits() as waits:
        answer = net(snippets(4), labels=LABELS, **SOFT, partners=others, num_items_in_batch=net.weight(LABELS))
        answer["loss"].backward()
        n_waits["network"] = waits.n
        net.update_average()
        n_waits["average"] = waits.n
        hidden = [group for group in optimizer.param_groups if group["is_hidden"]]
        with torch.no_grad():
            for group in hidden:
                optimizer._turn_all(group)
        n_waits["Muon"] = waits.n
    assert hidden and set(n_waits.values()) == {0}, n_waits


@pytest.mark.parametrize(("time", "frequency", "n_left"), [(0.5, 0.5, 4 * 4), (0.75, 0.0, 2 * 8), (0.0, 0.25, 8 * 6)])
def test_patchout_shortens_what_the_trained_network_sees_and_nothing_else(
    time: float, frequency: float, n_left: int, checkpoint: Path
) -> None:
    net = network(checkpoint, **PLAIN | {"patchout": time, "frequency_patchout": frequency})
    lengths = []
    net.ast.audio_spectrogram_transformer.layers[0].register_forward_hook(
        lambda module, inputs, output: lengths.append(inputs[0].shape[1])
    )
    net.train()(snippets(2), labels=torch.tensor([0, 1]))
    net.eval()(snippets(2))
    net.leave_out_patches(False)
    net.train()(snippets(2), labels=torch.tensor([0, 1]))
    assert lengths == [2 + n_left, 2 + 8 * 8, 2 + 8 * 8]


def test_learning_rates_fall_with_depth_and_tokens_do_not_decay(checkpoint: Path) -> None:
    config = configure("v2", model=str(checkpoint), lr=1.0, layer_decay=0.5, head_lr_factor=10.0, weight_decay=0.1)
    ast, log_mel, _ = begin(config, GENRES)
    net = Network(ast, log_mel, config, None, n_classes=2)
    groups = parameter_groups(net, config)
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    expected = {
        "classifier.dense.weight": (10.0, 0.1),
        "classifier.dense.bias": (10.0, 0.0),
        "auxiliary.weight": (10.0, 0.1),
        "auxiliary.bias": (10.0, 0.0),
        "audio_spectrogram_transformer.layernorm.weight": (1.0, 0.0),
        "audio_spectrogram_transformer.layers.1.mlp.fc1.weight": (1.0, 0.1),
        "audio_spectrogram_transformer.layers.0.mlp.fc1.weight": (0.5, 0.1),
        "audio_spectrogram_transformer.layers.0.mlp.fc1.bias": (0.5, 0.0),
        "audio_spectrogram_transformer.embeddings.position_embeddings": (0.25, 0.0),
        "audio_spectrogram_transformer.embeddings.patch_embeddings.projection.weight": (0.25, 0.1),
    }
    parameters = dict(ast.named_parameters()) | dict(net.auxiliary.named_parameters("auxiliary"))
    assert {
        name: (of[id(parameters[name])]["lr"], of[id(parameters[name])]["weight_decay"]) for name in expected
    } == expected
    assert sum(len(group["params"]) for group in groups) == len(parameters)


def test_the_seed_recipe_has_one_learning_rate(checkpoint: Path) -> None:
    groups = parameter_groups(network(checkpoint), TrainConfig())
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(5e-5, 0.0)}


#: AudioSet's network, or one of its shape, without numbers in it.
def on_paper(**shape: int) -> ASTForAudioClassification:
    with torch.device("meta"):
        return ASTForAudioClassification(ASTConfig(num_labels=3, **shape))


@pytest.mark.parametrize(
    ("recipe", "precision", "gigabytes"),
    [("seed", "fp32", 0.72), ("seed", "bf16", 0.45), ("v2", "bf16", 0.18)],
)
def test_what_a_snippet_of_the_full_network_takes_is_what_was_measured(
    recipe: str, precision: str, gigabytes: float
) -> None:
    assert bytes_per_snippet(on_paper(), configure(recipe), precision) / 1e9 == pytest.approx(gigabytes, abs=0.005)
    finished = configure(recipe, finish_epochs=1)  # on whole snippets, for which there has to be room
    assert bytes_per_snippet(on_paper(), finished, "bf16") / 1e9 == pytest.approx(0.45, abs=0.005)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("patchout", [0.0, 0.5])
def test_what_a_snippet_takes_is_what_the_backward_pass_keeps(precision: str, patchout: float) -> None:
    config = configure("seed", model="new-small", augment_p=0.0, patchout=patchout, frequency_patchout=patchout)
    ast, log_mel, _ = begin(config, GENRES, 3 * SAMPLE_RATE)
    net, sizes = Network(ast, log_mel, config, None).train(), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    kept = []
    for n in (2, 4):  # of which the difference is of snippets alone
        sizes.clear()
        waveforms = snippets(n).repeat(1, 3)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            loss = net(waveforms, labels=LABELS[:n])["loss"]
        kept.append(sum(sizes.values()))
        del loss
    assert (kept[1] - kept[0]) / 2 == pytest.approx(bytes_per_snippet(ast, config, precision), rel=0.15)


def test_a_batch_too_large_for_the_memory_is_halved_evenly(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(model=str(checkpoint))
    ast, _, _ = begin(config, GENRES)
    weights = sum(parameter.numel() for parameter in ast.parameters()) * 18
    memory = weights + 25.5 * bytes_per_snippet(ast, config, "fp32")
    monkeypatch.setattr("training.learning.network.free_memory", lambda device: memory / 0.9)
    assert device_batch(ast, config, "fp32", 64, "cpu") == 16
    assert device_batch(ast, config, "fp32", 20, "cpu") == 20
    monkeypatch.setattr("training.learning.network.free_memory", lambda device: 0.0)
    assert device_batch(ast, config, "fp32", 64, "cpu") == 1


def test_a_card_of_eight_gigabytes_takes_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (7_600_000_000, 8_000_000_000))
    assert device_batch(on_paper(), configure("seed"), "bf16", 11, "cuda") == 11  # 12 are too many
    assert device_batch(on_paper(), configure("seed"), "bf16", 64, "cuda") == 8
    assert device_batch(on_paper(), configure("v2"), "bf16", 64, "cuda") == 16


def test_the_memory_of_a_mac_is_what_its_gpu_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.mps.recommended_max_memory", lambda: 11_000)
    monkeypatch.setattr("torch.mps.driver_allocated_memory", lambda: 1_000)
    assert free_memory("mps") == 10_000


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = free_memory("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory("cpu") == pytest.approx(alone / 4, rel=0.3)  # others take and give while this runs
