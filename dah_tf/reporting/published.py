"""Published figures in percent. We did not measure them, and always show them with their source."""

PAPER = "DAH, IEEE Access 2020"
DATA, PROTOCOL = "cifar10", "full"

# MAP by code length. NoneA-DAH is DAH minus the gain that the paper states for attention.
MAP = {
    "DAH": {12: 92.51, 24: 92.19, 36: 92.67, 48: 92.31},
    "NoneA-DAH": {12: 92.08, 24: 92.06, 36: 92.35, 48: 91.89},
}

# Each entry has the method, its backbone if known, its MAP over all code lengths, and the source.
RIVALS = (
    ("BGAN", None, "89.4 (best)", f"{PAPER}: its best deep rival, length not stated"),
    ("COSDISH", None, "54.93 (best)", f"{PAPER}: its best conventional rival, length not stated"),
    ("DTSH", "pretrained on ImageNet", "91.6 – 93.4", "not in the paper"),
    ("MIHash", "pretrained on ImageNet", "92.2 – 94.2", "not in the paper"),
    ("DCWH", "GoogLeNet, pretrained on ImageNet", "95.7 – 96.1", "not in the paper"),
)
PRECISION_AT_1000 = ("DAH", "> 91", f"{PAPER}: at every length")
PRECISION_WITHIN_2 = ("DAH", "> 90", f"{PAPER}: at every length")


def edges(name):
    """Returns the lowest and the highest MAP of a method over the code lengths, as text."""
    values = MAP[name].values()
    return f"{min(values):.2f} – {max(values):.2f}"


def source(name):
    """Returns the source of a method's MAP."""
    return PAPER if name == "DAH" else f"{PAPER}: DAH less the stated gain"


def applies(section):
    """Returns whether the published figures are for a section's data and protocol."""
    return (section.data, section.protocol) == (DATA, PROTOCOL)
