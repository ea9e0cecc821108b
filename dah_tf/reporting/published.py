"""Published figures, in percent: never measured here, and always shown with their source."""

PAPER = "DAH, IEEE Access 2020"
DATA, PROTOCOL = "cifar10", "full"

# MAP by code length. NoneA-DAH is DAH less the gain that the paper states for attention.
MAP = {
    "DAH": {12: 92.51, 24: 92.19, 36: 92.67, 48: 92.31},
    "NoneA-DAH": {12: 92.08, 24: 92.06, 36: 92.35, 48: 91.89},
}

# Method, what is known over all code lengths, source.
RIVALS = (
    ("BGAN", "89.4 (best)", f"{PAPER}: its best deep rival, length not stated"),
    ("COSDISH", "54.93 (best)", f"{PAPER}: its best conventional rival, length not stated"),
    ("DTSH", "91.6 – 93.4", "not in the paper; network pretrained on ImageNet"),
    ("MIHash", "92.2 – 94.2", "not in the paper; network pretrained on ImageNet"),
    ("DCWH", "95.7 – 96.1", "not in the paper; GoogLeNet pretrained on ImageNet"),
)
PRECISION_AT_1000 = ("DAH", "> 91", f"{PAPER}: at every length")
PRECISION_WITHIN_2 = ("DAH", "> 90", f"{PAPER}: at every length")


def applies(section):
    """Whether a section's data and protocol are those of the published figures."""
    return (section.data, section.protocol) == (DATA, PROTOCOL)
