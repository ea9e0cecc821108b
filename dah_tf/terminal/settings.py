"""The flags of a training run, made from `Recipe`, and the recipe made from given flags."""

import dataclasses
import sys
import typing

from absl import flags

from dah_tf import parts
from dah_tf.errors import UserError
from dah_tf.runs import recipe as recipes
from dah_tf.runs.recipe import MOVED, SETTINGS, Recipe

FLAGS = flags.FLAGS


class _PartFlag(flags.Flag):
    """A flag for a part. If it is given twice with the same name, the options are combined.

    The later value of an option counts.
    """

    def parse(self, argument):
        try:
            given = parts.parse(argument)
        except UserError as error:
            raise flags.IllegalFlagValueError(f"flag --{self.name}={argument}: {error}") from None
        if self.present:
            given = parts.parse(self.value).merged(given)
        self.value = str(given)
        self.present += 1


def define(values: flags.FlagValues = FLAGS, only: tuple | None = None):
    """Defines a flag for each setting of `Recipe`, and the old flags of version 0.2.0.

    Args:
        values: the object in which the flags are defined.
        only: the names of the settings that get a flag. With None all settings and the old flags
            are defined.
    """
    hints = typing.get_type_hints(Recipe)
    for field in dataclasses.fields(Recipe):
        if only and field.name not in only:
            continue
        setting = SETTINGS[field.name]
        kind = next(
            each
            for each in (typing.get_args(hints[field.name]) or (hints[field.name],))
            if each is not type(None)
        )
        about = {"name": field.name, "default": field.default, "help": setting.help}
        if setting.spec:
            flag = _PartFlag(flags.ArgumentParser(), flags.ArgumentSerializer(), **_ordered(about))
            flags.DEFINE_flag(flag, values, __name__)
        elif kind is bool:
            flags.DEFINE_boolean(**about, flag_values=values)
        elif kind is str and setting.choices:
            flags.DEFINE_enum(**about, enum_values=list(setting.choices), flag_values=values)
        elif kind is str:
            flags.DEFINE_string(**about, flag_values=values)
        else:
            number = flags.DEFINE_integer if kind is int else flags.DEFINE_float
            number(**about, lower_bound=setting.low, upper_bound=setting.high, flag_values=values)
    if not only:
        for name, setting in recipes.moved().items():
            kind = flags.DEFINE_boolean if name in ("attention", "fixed_norm") else None
            (kind or flags.DEFINE_string)(
                name, None, f"{name} is an option of --{setting} now.", flag_values=values
            )


def _ordered(about):
    return {"name": about["name"], "default": about["default"], "help_string": about["help"]}


def recipe(values: flags.FlagValues = FLAGS, quiet: bool = False) -> Recipe:
    """Makes a recipe from flags. An old flag becomes an option of its part.

    Args:
        values: parsed flags that `define` defined.
        quiet: bool, whether to leave out the line on stderr about old flags.

    Raises:
        UserError: the part has no such option as an old flag names.
    """
    given = {name: values[name].value for name in SETTINGS}
    for setting, tables in MOVED.items():
        names = dict.fromkeys(key for keys in tables.values() for key in keys)
        old = {key: values[key].value for key in names if values[key].value is not None}
        if not old:
            continue
        # Version 0.2.0 used these parts if none was named.
        own = parts.parse(given[setting] or {"method": "dah", "optimizer": "adam"}[setting])
        known = tables.get(own.name, ())
        for key in old:
            if key not in known:
                owner = " or ".join(name for name, keys in tables.items() if key in keys)
                raise UserError(
                    f"--{key} is an option of --{setting}={owner}, not of {own.name}; leave it out"
                )
        options = {key: parts.write(_plain(value)) for key, value in old.items()}
        given[setting] = str(own.merged(parts.Spec(own.name, options)))
        if not quiet:
            moved = ", ".join(f"--{key}" for key in old)
            print(
                f"note: {moved} is now --{setting}={parts.Spec(own.name, options)}", file=sys.stderr
            )
    return Recipe(**given)


def _plain(value):
    return value.split(",") if isinstance(value, str) and "," in value else value


def parse(arguments: list[str]) -> Recipe:
    """Makes a recipe from command line arguments, without the flags of this process.

    Raises:
        UserError: there is no such flag, or it does not allow the value.
    """
    values = flags.FlagValues()
    define(values)
    try:
        values(["train", *arguments])
    except flags.Error as error:
        raise UserError(str(error)) from error
    return recipe(values, quiet=True)


def given(values: flags.FlagValues = FLAGS) -> list[str]:
    """Returns the flags of a recipe that were given, as arguments for another command."""
    names = [*SETTINGS, *recipes.moved()]
    return [values[name].serialize() for name in names if values[name].present]
