"""Parts by name: `compact:widths=128/256/256,depth=3` is a name with arguments for its factory.

Each kind of part (backbone, optimiser, method, backend of an index, runtime) has one dictionary of
names. Its values are factories, or texts `module:function` that are imported when they are used.
The text of a part gives the keyword-only arguments of the factory, and their annotations say how
the text is read. The caller gives all other arguments. Standard library only.
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
    """The name of a part, and its given arguments as text.

    Attributes:
        name: str.
        arguments: dict of str to str, in the order in which they were given.

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
        """Returns this spec with the arguments of a later one added or replaced.

        If the later spec has another name, only the later one is returned.
        """
        if later.name != self.name:
            return later
        return Spec(self.name, {**self.arguments, **later.arguments})


def parse(text: str) -> Spec:
    """Reads `name:key=value,key=value`. A key without a value means `key=true`.

    Raises:
        UserError: the text has another form, or a key is given twice.
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
    """Returns the factory of a part.

    Args:
        kind: str, the kind of part, such as "backbone", for messages.
        name: str, the name of the part.
        table: dict of name to factory or `module:function`.

    Raises:
        UserError: there is no part of this name.
    """
    if name not in table:
        raise UserError(f"there is no {kind} {name!r}; there are {', '.join(table)}")
    found = table[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(importlib.import_module(module), attribute)
    return found


def keys(made_by) -> dict:
    """Returns the keyword-only parameters of a factory, which a text can give: a dict by name."""
    parameters = inspect.signature(made_by).parameters.values()
    return {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}


def arguments(kind: str, spec: Spec, made_by) -> dict:
    """Converts the arguments of a spec to the types that the factory takes.

    Args:
        kind: str, the kind of part, such as "backbone".
        spec: `Spec`.
        made_by: the factory. All its keyword-only parameters have annotations.

    Returns:
        Dict of the given arguments. Each value has the type of its annotation.

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
        kind: str, the kind of part, such as "backbone".
        text: str, `name:key=value,...`.
        table: dict of name to factory or `module:function`.
        *context, **more: the other arguments of the factory.

    Raises:
        UserError: there is no such name or option, or a value does not fit its type; or the
            factory's own error about a value that it refuses.
    """
    spec = parse(text)
    made_by = factory(kind, spec.name, table)
    given = arguments(kind, spec, made_by)
    return made_by(*context, **more, **given)


def resolved(kind: str, text: str, table: dict) -> str:
    """Returns a text with all options of its part written out, as a run records it."""
    spec = parse(text)
    made_by = factory(kind, spec.name, table)
    given = arguments(kind, spec, made_by)
    values = {name: given.get(name, each.default) for name, each in keys(made_by).items()}
    return str(Spec(spec.name, {name: write(value) for name, value in values.items()}))


def write(value) -> str:
    """Writes a value as the text that `read` reads."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "/".join(write(each) for each in value)
    return str(value)


def read(text: str, hint):
    """Reads a text as a value of a type.

    Args:
        text: str.
        hint: bool, int, float, str, a tuple of one of these, or one of these or None.

    Raises:
        ValueError: the text does not fit; the message names what it should be.
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
    """Says whether a recorded part, with all options written out, agrees with a given one."""
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
