"""Names methods and recipes by the settings in which they differ from other runs of a section.

All rules about which settings distinguish recipes come from `dah_tf.runs.recipe`.
"""

import collections
import json

from dah_tf.errors import UserError
from dah_tf.runs.recipe import SETTINGS, TRAINING, comparable

TOLD = 3  # A name shows at most this many settings.
USUAL = "usual settings"
MORE = "…"


def settings(flags, mirror=None) -> dict:
    """Returns a run's recorded flags, of any version, as a report compares and shows them.

    Args:
        flags: dict of a result file.
        mirror: bool, the setting with which the run was evaluated, or None.

    Returns:
        Dict such as `{"epochs": 8.0, "method.t": 12.5}`. Settings that only say where a run is
        stored are left out. The dict is empty if `flags` are not the flags of a run.
    """
    try:
        found = comparable(flags)
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return {}  # A result file may contain anything.
    found = {name: value for name, value in found.items() if not _field(name).local}
    return found if mirror is None else {**found, "mirror": mirror}


def of_recipe(found: dict) -> dict:
    """Returns the settings that all runs of one recipe must have in common."""
    return {name: value for name, value in found.items() if not _field(name).varied}


def of_method(found: dict) -> dict:
    """Returns the settings that define a network and its recipe."""
    network = {name: found[name] for name in ("backbone",) if name in found}
    return {**network, **options(found, "backbone"), **of_recipe(found)}


def _field(name):
    return SETTINGS[name.partition(".")[0]]


def options(found: dict, part: str) -> dict:
    """Returns the options of a part, such as `{"depth": 3.0}` for `backbone.depth`."""
    start = f"{part}."
    return {name: value for name, value in found.items() if name.startswith(start)}


def written(value) -> str:
    """Returns a value as it is written on a command line, or "none" if it is not set."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(name, value) -> str:
    """Returns `t=12.5` for `method.t`. Options of the same name mean the same in all parts."""
    return f"{name.rpartition('.')[2]}={written(value)}"


def plain(value):
    """Returns a hashable substitute. Equal values have equal substitutes."""
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True)
    return str(value) if isinstance(value, bool) else value


def key(found: dict):
    """Returns a hashable substitute for settings."""
    return frozenset((name, plain(value)) for name, value in found.items())


def differing(every: list[dict]) -> list[str]:
    """Returns the names of the settings that are not the same in all, in `Recipe`'s order."""
    names = {name for each in every for name in each}
    names = [n for n in names if len({plain(each.get(n)) for each in every}) > 1]
    return sorted(names, key=_place)


def _place(name):
    return list(SETTINGS).index(name.partition(".")[0]), name


def _rank(recipe, name):
    return recipe.get(name) is None, _field(name).group != TRAINING, _place(name)


def name_methods(runs):
    """Sets the names of method, network and recipe in the runs of one section."""
    known = [run for run in runs if "backbone" in run.settings]
    networks = {}
    for run in known:
        networks.setdefault(run.settings["backbone"], []).append(run)
    for network, those in networks.items():
        parts = [options(run.settings, "backbone") for run in those]
        names = differing(parts)
        for run, part in zip(those, parts, strict=True):
            told = [short(n, part.get(n)) for n in names if part.get(n) is not False]
            run.network = ", ".join([str(network), *told])
    groups = {}
    for run in known:
        groups.setdefault((run.settings.get("method"), run.network), []).append(run)
    for (method, _), those in groups.items():
        recipes = {key(of_recipe(run.settings)): of_recipe(run.settings) for run in those}
        named = dict(zip(recipes, called(list(recipes.values())), strict=True))
        for run in those:
            run.kind = "" if method is None else str(method)
            run.recipe = named[key(of_recipe(run.settings))]
        for recipe in recipes:
            _tell_notes([run for run in those if key(of_recipe(run.settings)) == recipe])
    several = len({run.kind for run in known}) > 1
    for run in runs:
        words = [run.kind if several else "", run.network, run.recipe]
        words = words if run.network else [run.name]
        run.method = ", ".join([*filter(None, words), *(["unfinished"] if run.unfinished else [])])


def _tell_notes(runs):
    """Adds notes to names: runs of equal recipe, length and seed but different notes are variants.

    The most frequent note is not shown. Notes are ignored if no two runs are otherwise the same.
    """
    same = collections.defaultdict(set)
    for run in runs:
        same[run.bits, run.seed].add(run.note)
    if all(len(notes) < 2 for notes in same.values()):
        return
    usual = collections.Counter(run.note for run in runs).most_common(1)[0][0]
    for run in runs:
        if run.note != usual:
            run.recipe = ", ".join(filter(None, [run.recipe, f"“{run.note or 'no note'}”"]))


def called(recipes: list[dict]) -> list[str]:
    """Returns a short name for each of several recipes. All names are different.

    The usual recipe has the most frequent value of every setting. Another recipe is named by all
    settings in which it differs from the usual one. If that name is long, it is named by the
    smallest set of settings found that no other recipe shares, followed by "…". The usual recipe is
    named `USUAL` unless one setting distinguishes it.

    Args:
        recipes: list of dicts of settings, no two of them equal.

    Returns:
        List of str, such as "epochs=8, cutout=8". A single recipe has the name "".
    """
    if len(recipes) < 2:
        return [""] * len(recipes)
    names = differing(recipes)
    # If several values are equally frequent, the value of the first recipe is taken.
    usual = {
        name: collections.Counter(plain(each.get(name)) for each in recipes).most_common(1)[0][0]
        for name in names
    }
    found = [_name(recipe, recipes, names, usual) for recipe in recipes]
    if len(set(found)) < len(found):
        found = [_name(recipe, recipes, names, usual, whole=True) for recipe in recipes]
    return found


def _name(recipe, recipes, names, usual, whole=False):
    """Returns the name of a recipe. A `whole` name also has options that its parts do not have."""
    unlike = [name for name in names if plain(recipe.get(name)) != usual[name]]
    every = unlike or names
    if not whole:  # Momentum has no effect in Adam.
        every = [
            n for n in every if n in recipe or "." not in n or n.partition(".")[0] not in every
        ]
    told = every if len(every) <= TOLD else _telling(recipe, recipes, names)
    told = told if len(told) <= (TOLD if unlike or told == every else 1) else unlike
    words = [short(name, recipe.get(name)) for name in sorted(told, key=_place)]
    words += [MORE] if words and set(every) - set(told) else []
    return ", ".join(words) or USUAL


def _telling(recipe, recipes, names):
    """Returns a few settings that distinguish a recipe from all others."""
    others = [each for each in recipes if each is not recipe]
    told = []
    while others:
        alike = {
            name: [each for each in others if plain(each.get(name)) == plain(recipe.get(name))]
            for name in names
        }
        # A setting that is set says more than one that is not, and the length of training says more
        # than the data.
        told.append(min(names, key=lambda name: (len(alike[name]), *_rank(recipe, name))))
        others = alike[told[-1]]
    return told
