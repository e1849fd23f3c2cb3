"""The model card of a run: Markdown for people and for the Hugging Face hub, every number of it measured."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.evaluation.metrics import N_RESAMPLES, confused_pairs
from tagger.models.description import HUB_IDS
from tagger.models.head import LEAST_HELD_OUT, LEAST_OF_EACH, is_enough_evidence
from training.outcome.markdown import markdown_templates
from training.outcome.metrics import SONG_SCORES

if TYPE_CHECKING:
    from training.outcome.outcome import Outcome

FEW_SONGS = 20  # of a genre: one more that is right moves its recall by 5 points
SMALL_TEST = 200  # songs: the interval of a score is wider than 10 points


def model_card(outcome: Outcome) -> str:
    """The card as Markdown, behind the YAML that the hub reads."""
    began_as = HUB_IDS.get(outcome.model, outcome.model)  # where the weights come from, in full
    is_hub_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", began_as) and not Path(began_as).exists()
    return markdown_templates("training.outcome").get_template("MODEL_CARD.md.j2").render(
        outcome=outcome,
        began_as=began_as,
        is_hub_id=is_hub_id,
        tag_command=f"genre-tag --model {shlex.quote(str(outcome.folder))} ~/Music",
        commands=[shlex.join(argv) for argv in (outcome.prepare_argv, outcome.argv) if argv],
        confused=confused_pairs(outcome.scores[outcome.judged].confusion, outcome.genres),
        few=_few(outcome),
        song_scores={name: SONG_SCORES[name] for name in sorted(SONG_SCORES, key=lambda name: name != "mean")},
        is_calibrated=is_enough_evidence(outcome.contents["validate"].n_songs),
        least_held_out=LEAST_HELD_OUT,
        least_of_each=LEAST_OF_EACH,
        n_resamples=N_RESAMPLES,
        few_songs=FEW_SONGS,
        small_test=SMALL_TEST,
    )  # fmt: skip


def _few(outcome: Outcome) -> dict[str, dict[str, int]]:
    """The genres with few songs in train, or where the model is judged: how many there."""
    found = {}
    for label, genre in enumerate(outcome.genres):
        counts = {split: outcome.contents[split].n_songs[label] for split in ("train", outcome.judged)}
        if few := {split: number for split, number in counts.items() if number < FEW_SONGS}:
            found[genre] = few
    return found
