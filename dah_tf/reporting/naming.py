"""What a method and a recipe are called: by the settings in which they differ from their neighbours.

Every rule of which setting tells recipes apart comes from `dah_tf.runs.recipe`.
"""

import collections
import json

from dah_tf.errors import UserError
from dah_tf.runs.recipe import SETTINGS, TRAINING, comparable

TOLD = 3  # settings of a name, at most
USUAL = "usual settings"
MORE = "…"


def settings(flags, mirror=None) -> dict:
    """A run's recorded flags, of any version, as a report compares and shows them.

    Args:
        flags: dict of a result file.
        mirror: bool that the evaluation was told, or None.

    Returns:
        Dict such as `{"epochs": 8.0, "method.t": 12.5}`, without what only says where a run lies;
        empty where they are not the flags of a run.
    """
    try:
        found = comparable(flags)
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return {}  # a result file may hold anything
    found = {name: value for name, value in found.items() if not _field(name).local}
    return found if mirror is None else {**found, "mirror": mirror}


def of_recipe(found: dict) -> dict:
    """The settings of which runs of one recipe must have the same."""
    return {name: value for name, value in found.items() if not _field(name).varied}


def of_method(found: dict) -> dict:
    """The settings that make a network and its recipe."""
    network = {name: found[name] for name in ("backbone",) if name in found}
    return {**network, **options(found, "backbone"), **of_recipe(found)}


def _field(name):
    return SETTINGS[name.partition(".")[0]]


def options(found: dict, part: str) -> dict:
    """The options of a part: `{"depth": 3.0}` of `backbone.depth`."""
    start = f"{part}."
    return {name: value for name, value in found.items() if name.startswith(start)}


def written(value) -> str:
    """A value as it is written on a command line; "none" where it is not set."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(name, value) -> str:
    """`t=12.5` of `method.t`: no two parts share an option that is not the same thing."""
    return f"{name.rpartition('.')[2]}={written(value)}"


def plain(value):
    """A hashable stand-in; equal values have equal ones."""
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True)
    return str(value) if isinstance(value, bool) else value


def key(found: dict):
    """A hashable stand-in of settings."""
    return frozenset((name, plain(value)) for name, value in found.items())


def differing(every: list[dict]) -> list[str]:
    """Names of the settings that are not the same in all, in the order of `Recipe`."""
    names = {name for each in every for name in each}
    names = [n for n in names if len({plain(each.get(n)) for each in every}) > 1]
    return sorted(names, key=_place)


def _place(name):
    return list(SETTINGS).index(name.partition(".")[0]), name


def _rank(recipe, name):
    return recipe.get(name) is None, _field(name).group != TRAINING, _place(name)


def name_methods(runs):
    """Gives the runs of one section the names of their methods, networks and recipes."""
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
    """Runs of one recipe, length and seed that differ in their notes are variants: each is told.

    The most frequent note is not, and notes tell nothing where no two runs are otherwise the same.
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
    """A short name for each of several recipes, no two alike.

    A recipe is called by all in which it is unlike the usual one, whose every setting is the most
    frequent; where that is long, by the fewest settings found that no other recipe has together,
    and "…" for the rest. The usual one is called so where one setting does not tell it.

    Args:
        recipes: list of dicts of settings, no two equal.

    Returns:
        List of str, such as "epochs=8, cutout=8"; "" for a single recipe.
    """
    if len(recipes) < 2:
        return [""] * len(recipes)
    names = differing(recipes)
    # Of values as frequent as each other the first recipe's.
    usual = {
        name: collections.Counter(plain(each.get(name)) for each in recipes).most_common(1)[0][0]
        for name in names
    }
    found = [_name(recipe, recipes, names, usual) for recipe in recipes]
    if len(set(found)) < len(found):
        found = [_name(recipe, recipes, names, usual, whole=True) for recipe in recipes]
    return found


def _name(recipe, recipes, names, usual, whole=False):
    """A recipe's name; a `whole` one has options too that its parts do not."""
    unlike = [name for name in names if plain(recipe.get(name)) != usual[name]]
    every = unlike or names
    if not whole:  # of Adam the momentum says nothing
        every = [
            n for n in every if n in recipe or "." not in n or n.partition(".")[0] not in every
        ]
    told = every if len(every) <= TOLD else _telling(recipe, recipes, names)
    told = told if len(told) <= (TOLD if unlike or told == every else 1) else unlike
    words = [short(name, recipe.get(name)) for name in sorted(told, key=_place)]
    words += [MORE] if words and set(every) - set(told) else []
    return ", ".join(words) or USUAL


def _telling(recipe, recipes, names):
    """Few settings by which a recipe is told from all others."""
    others = [each for each in recipes if each is not recipe]
    told = []
    while others:
        alike = {
            name: [each for each in others if plain(each.get(name)) == plain(recipe.get(name))]
            for name in names
        }
        # What is set tells more than what is not, and the length of training more than the data.
        told.append(min(names, key=lambda name: (len(alike[name]), *_rank(recipe, name))))
        others = alike[told[-1]]
    return told
