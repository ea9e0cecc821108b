"""Parts by name: `compact:widths=128/256/256,depth=3` is a name and arguments of its factory.

Each kind of part (backbone, optimiser, method, backend of an index, runtime) has one literal
dictionary of names, whose values are factories or `module:function` texts that are imported when
they are used. What a factory takes by keyword only, it takes from the text; its annotation says
how the text is read. Everything else comes from the caller. Standard library only.
"""

import dataclasses
import importlib
import inspect
import math
import re
import types
import typing

from dah_tf.errors import UserError

TRUE, FALSE = {"true", "yes", "1"}, {"false", "no", "0"}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A part's name, and the arguments given for it as text.

    Attributes:
        name: str.
        arguments: dict of str to str, in the order given.

    Example:
        >>> parse("muon:ns_steps=3,fixed_norm")
        Spec(name='muon', arguments={'ns_steps': '3', 'fixed_norm': 'true'})
        >>> str(parse("muon:ns_steps=3,fixed_norm"))
        'muon:ns_steps=3,fixed_norm=true'
    """

    name: str
    arguments: dict

    def __str__(self):
        given = ",".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.name}:{given}" if given else self.name

    def merged(self, later):
        """This spec with the arguments of a later one; the later one alone if its name differs."""
        if later.name != self.name:
            return later
        return Spec(self.name, {**self.arguments, **later.arguments})


def parse(text: str) -> Spec:
    """Reads `name:key=value,key=value`; a key alone means `key=true`.

    Raises:
        UserError: another form, or a key that stands twice.
    """
    name, colon, rest = str(text).strip().partition(":")
    arguments = {}
    for each in rest.split(",") if colon else []:
        key, equals, value = (word.strip() for word in each.partition("="))
        if not re.fullmatch(r"\w+", key) or (equals and not value) or key in arguments:
            raise UserError(f"{text!r} is not of the form name:key=value,key=value")
        arguments[key] = value if equals else "true"
    if not name or (colon and not arguments):
        raise UserError(f"{text!r} is not of the form name:key=value,key=value")
    return Spec(name, arguments)


def factory(kind: str, name: str, table: dict):
    """The factory of a name.

    Args:
        kind: what the parts are, such as "backbone"; messages begin with it.
        name: str.
        table: dict of name to factory or `module:function`.

    Raises:
        UserError: no such name.
    """
    if name not in table:
        raise UserError(f"there is no {kind} {name!r}; there are {', '.join(table)}")
    found = table[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(importlib.import_module(module), attribute)
    return found


def keys(made_by) -> dict:
    """What a factory takes from a text: a dict of its keyword-only parameters by name."""
    parameters = inspect.signature(made_by).parameters.values()
    return {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}


def arguments(kind: str, spec: Spec, made_by) -> dict:
    """A spec's arguments as the factory takes them.

    Args:
        kind: what the parts are, such as "backbone".
        spec: `Spec`.
        made_by: the factory, every keyword-only parameter annotated.

    Returns:
        Dict of the given arguments, each of its annotation's type.

    Raises:
        UserError: the factory has no such argument, or the text does not fit its type.
    """
    known = keys(made_by)
    hints = typing.get_type_hints(made_by if inspect.isroutine(made_by) else made_by.__init__)
    result = {}
    for key, text in spec.arguments.items():
        if key not in known:
            options = f"its options are {', '.join(known)}" if known else "it has no options"
            raise UserError(f"{kind} {spec.name} has no option {key!r}; {options}")
        try:
            result[key] = read(text, hints[key])
        except ValueError as error:
            raise UserError(f"{kind} {spec.name}: {key}={text} is not {error}") from None
    return result


def build(kind: str, text: str, table: dict, *context, **more):
    """Makes the part that a text names.

    Args:
        kind: what the parts are, such as "backbone".
        text: str, `name:key=value,...`.
        table: dict of name to factory or `module:function`.
        *context, **more: the factory's other arguments.

    Raises:
        UserError: no such name or option; or the factory's own, of a value that it refuses.
    """
    spec = parse(text)
    made_by = factory(kind, spec.name, table)
    given = arguments(kind, spec, made_by)
    return made_by(*context, **more, **given)


def resolved(kind: str, text: str, table: dict) -> str:
    """A text with every option of its part written out, as a run keeps it."""
    spec = parse(text)
    made_by = factory(kind, spec.name, table)
    given = arguments(kind, spec, made_by)
    values = {name: given.get(name, each.default) for name, each in keys(made_by).items()}
    return str(Spec(spec.name, {name: write(value) for name, value in values.items()}))


def write(value) -> str:
    """A value as `read` reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "/".join(write(each) for each in value)
    return str(value)


def read(text: str, hint):
    """A text as a value of a type: bool, int, float, str, a tuple of one, or None beside one.

    Raises:
        ValueError: it is not; the message names what it should be.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if type(None) in options and text.lower() == "none":
            return None
        (hint,) = [each for each in options if each is not type(None)]
    if typing.get_origin(hint) is tuple:
        return tuple(read(each, typing.get_args(hint)[0]) for each in text.split("/"))
    if hint is bool:
        if text.lower() not in TRUE | FALSE:
            raise ValueError("true or false")
        return text.lower() in TRUE
    if hint in (int, float):
        try:
            value = hint(text)
        except ValueError:
            raise ValueError("a whole number" if hint is int else "a number") from None
        if not math.isfinite(value):
            raise ValueError("a finite number")
        return value
    return text


def agree(given: Spec, recorded: Spec) -> bool:
    """Whether a recorded part, with every option written out, has all that is given."""
    return given.name == recorded.name and all(
        _same(value, recorded.arguments.get(key)) for key, value in given.arguments.items()
    )


def _same(one, other):
    if one == other:
        return True
    if other is None:
        return False
    pair = []
    for text in (one.lower(), other.lower()):
        try:
            pair.append([float(each) for each in text.split("/")])
        except ValueError:
            pair.append(text in TRUE if text in TRUE | FALSE else text)
    return pair[0] == pair[1]
