"""Which images a run has seen: in its own training, and in that of the runs it started from."""

import os
import pathlib

import numpy as np

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.runs import workspace
from dah_tf.runs.recipe import Recipe
from dah_tf.training import build


def of(run) -> list[dict]:
    """A run and those that it started from, the nearest first.

    Args:
        run: path of a run's folder, or "pretrained:NAME".

    Returns:
        List of JSON-able dicts with `name`, the data set's `dataset` and `fingerprint`, and what
        makes the protocol: `protocol`, `validation`, `seed` and `checksum` (None in runs of
        version 0.2.0).
    """
    folder = pretrained.folder(run)
    recipe, facts = workspace.read_recipe(folder), workspace.read_data_facts(folder)
    own = {
        "name": pathlib.Path(run).name if os.path.isabs(run) else str(run),
        "dataset": recipe.dataset,
        "fingerprint": facts["fingerprint"],
        "protocol": recipe.protocol,
        "validation": recipe.validation,
        "seed": recipe.seed,
        "checksum": facts.get("checksum"),
    }
    return [own, *workspace.read_started_from(folder)]


def training_parts(link: dict, recipe: Recipe, dataset):
    """The protocol that a run was trained by, on a data set.

    Args:
        link: dict of `of`.
        recipe: `Recipe`; its `dataset` names the data set.
        dataset: `data.Dataset`.

    Returns:
        `data.Protocol`; None where the data is another than the run's, by content and by name: on
        which of its images the run was trained is not known then.
    """
    if dataset.fingerprint != link["fingerprint"] and recipe.dataset != link["dataset"]:
        return None
    theirs = recipe.replace(validation=link["validation"], seed=link["seed"])
    return build.make_protocol(theirs, dataset, link["protocol"])


def trained_on(protocol, training) -> int:
    """How many of a protocol's queries are among the images that another trains on."""
    known = np.concatenate([training.train, training.validation])
    return int(np.isin(protocol.query, known).sum())


def check(links: list[dict], recipe: Recipe, dataset, protocol, what: str):
    """Refuses queries that a run, or one that it started from, was trained on.

    Args:
        links: of `of`.
        recipe, dataset, protocol: what is to be evaluated.
        what: str, how the message begins, such as "backbone_weights=runs/first".

    Raises:
        UserError: a run was trained on some of the queries.
    """
    for link in links:
        training = training_parts(link, recipe, dataset)
        if training is not None and (known := trained_on(protocol, training)):
            raise UserError(
                f"{what}: {link['name']} was trained on {known:,} of the "
                f"{len(protocol.query):,} queries of protocol={protocol.name}, by "
                f"protocol={training.name}; take that protocol, or a run with "
                f"protocol={protocol.name}"
            )
