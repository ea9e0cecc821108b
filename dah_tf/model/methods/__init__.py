"""This package finds hash methods by a text such as `dah:phi1=0.5,balance_weight=3`.

The module `base` describes what a method is and how to add one. The shallow methods of
`baselines` are methods too, and the module `shallow` makes them.
"""

from dah_tf import baselines, parts
from dah_tf.errors import UserError
from dah_tf.model.methods.base import Facts, Method, Needs

__all__ = [
    "METHODS",
    "STATE",
    "Facts",
    "Method",
    "Needs",
    "get",
    "is_shallow",
    "names",
    "resolved",
    "with_options",
]

STATE = "method"  # the first part of the paths of a method's variables in checkpoints

METHODS = {
    "dah": "dah_tf.model.methods.dah:DAH",
    "ce": "dah_tf.model.methods.ce:CrossEntropy",
    "dpsh": "dah_tf.model.methods.dpsh:DPSH",
    "dsh": "dah_tf.model.methods.dsh:DSH",
    "hashnet": "dah_tf.model.methods.hashnet:HashNet",
    "dtsh": "dah_tf.model.methods.dtsh:DTSH",
    "mihash": "dah_tf.model.methods.mihash:MIHash",
    "talr": "dah_tf.model.methods.talr:TALR",
    "sdhp": "dah_tf.model.methods.sdhp:SDHP",
    "ninh": "dah_tf.model.methods.ninh:NINH",
    "drsch": "dah_tf.model.methods.drsch:DRSCH",
    "pgdh": "dah_tf.model.methods.pgdh:PGDH",
    "cnnh": "dah_tf.model.methods.cnnh:CNNH",
    "dsdh": "dah_tf.model.methods.dsdh:DSDH",
    "csq": "dah_tf.model.methods.csq:CSQ",
    "greedyhash": "dah_tf.model.methods.greedyhash:GreedyHash",
    "orthohash": "dah_tf.model.methods.orthohash:OrthoHash",
    "relahash": "dah_tf.model.methods.relahash:RelaHash",
    "mdsh": "dah_tf.model.methods.mdsh:MDSH",
    "dcwh": "dah_tf.model.methods.dcwh:DCWH",
    "dhd": "dah_tf.model.methods.dhd:DHD",
    "dihn": "dah_tf.model.methods.dihn:DIHN",
    "doh": "dah_tf.model.methods.doh:DOH",
    "dsah": "dah_tf.model.methods.dsah:DSaH",
    "iah": "dah_tf.model.methods.iah:IAH",
    "bgan": "dah_tf.model.methods.bgan:BGAN",
}


def names() -> list[str]:
    """Lists the names that `get` knows, with the deep methods first."""
    return [*METHODS, *baselines.METHODS]


def is_shallow(text: str | None) -> bool:
    """Tells whether a text names a method that learns from features in a single fit."""
    return text is not None and parts.parse(text).name in baselines.METHODS


def resolved(text: str) -> str:
    """Returns a method's text with every option written out.

    Raises:
        UserError: for the same reasons as in `get`.
    """
    return str(get(text))


def get(text: str) -> Method:
    """Returns the method that a text names.

    Args:
        text: str, `name` or `name:option=value,...`.

    Raises:
        UserError: there is no such method or option, or a value is out of its range.

    Example:
        >>> str(get("dpsh:eta=0.1"))
        'dpsh:eta=0.1,class_weight=0.0'
    """
    if is_shallow(text):
        from dah_tf.model.methods.shallow import Shallow

        return Shallow(text)
    if (name := parts.parse(text).name) not in METHODS:
        raise UserError(f"there is no method {name!r}; there are {', '.join(names())}")
    return parts.build("method", text, METHODS)


def with_options(text: str, options: dict) -> parts.Spec:
    """Adds options to a method's text. Options that are already in the text take precedence."""
    spec = parts.parse(text)
    given = {name: parts.write(value) for name, value in options.items()}
    return parts.Spec(spec.name, given).merged(spec)
