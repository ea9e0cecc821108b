"""This module finds out which images a run was trained on.

The training of the runs that it started from is included.
"""

import os
import pathlib

import numpy as np

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.runs import workspace
from dah_tf.runs.recipe import Recipe
from dah_tf.training import build


def of(run) -> list[dict]:
    """Lists a run and the runs that it started from, with the nearest first.

    Args:
        run: path of a run's folder, or "pretrained:NAME".

    Returns:
        List of dicts that can be written as JSON. Each holds `name`, the data set's `dataset`
        and `fingerprint`, and what defines the protocol: `protocol`, `validation`, `seed` and
        `checksum`. The checksum is None in runs of version 0.2.0.
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
    """Makes the protocol that a run was trained with, on a data set.

    Args:
        link: one of the dicts that `of` returns.
        recipe: `Recipe` that names the data set in `dataset`.
        dataset: `data.Dataset`.

    Returns:
        `data.Protocol`, or None if the data differs from the run's data both in its content and
        in its name. In that case it is unknown which of its images the run was trained on.
    """
    if dataset.fingerprint != link["fingerprint"] and recipe.dataset != link["dataset"]:
        return None
    theirs = recipe.replace(validation=link["validation"], seed=link["seed"])
    return build.make_protocol(theirs, dataset, link["protocol"])


def trained_on(protocol, training) -> int:
    """Counts the queries of a protocol that are among the training images of another one."""
    known = np.concatenate([training.train, training.validation])
    return int(np.isin(protocol.query, known).sum())


def check(links: list[dict], recipe: Recipe, dataset, protocol, what: str):
    """Refuses queries that a run, or one that it started from, was trained on.

    Args:
        links: list of dicts that `of` returned.
        recipe, dataset, protocol: the recipe, the data set and the protocol to evaluate.
        what: str, the beginning of the message, such as "backbone_weights=runs/first".

    Raises:
        UserError: a run was trained on some of the queries.
    """
    for link in links:
        training = training_parts(link, recipe, dataset)
        if training is not None and (known := trained_on(protocol, training)):
            raise UserError(
                f"{what}: {link['name']} was trained on {known:,} of the "
                f"{len(protocol.query):,} queries of protocol={protocol.name}, because it used "
                f"protocol={training.name}; use that protocol, or a run that was trained with "
                f"protocol={protocol.name}"
            )
