"""Published figures in percent. We did not measure them, and always show them with their source."""

import dataclasses

PAPER = "DAH, IEEE Access 2020"
GAIN = f"{PAPER}: DAH less the stated gain"
QUOTED = "quoted by a later paper"
AUTHORS = "the authors' repository"
AGAIN = "run again by others"
DATA, FULL, SMALL = "cifar10", "full", "1k/5k/59k"
LENGTHS = (12, 24, 32, 48)


@dataclasses.dataclass(frozen=True)
class Figures:
    """The MAP that others published for a method on CIFAR-10.

    Attributes:
        method: str, the name of the method.
        protocol: str, the protocol of the figures, named as in this package.
        values: dict from the number of bits to MAP in percent. It is empty if only `text` is known.
        network: str, the network or the features, or None if they are not known.
        source: str, where the figures were read.
        text: str, what is known over all lengths, or None for the lowest and the highest value.
    """

    method: str
    protocol: str
    values: dict
    network: str | None
    source: str
    text: str | None = None

    @property
    def edges(self):
        """str, the lowest and the highest MAP over the code lengths, or None for one length."""
        if self.text or len(self.values) < 2:
            return self.text
        return f"{min(self.values.values()):.2f} – {max(self.values.values()):.2f}"


def _lengths(*values):
    return dict(zip(LENGTHS, values, strict=True))


_GIST = "GIST, 512 values"
_CNN = "a small network, from scratch"
_ALEXNET, _VGG = "AlexNet, pretrained", "VGG-F, pretrained"

FIGURES = (
    Figures("DAH", FULL, {12: 92.51, 24: 92.19, 36: 92.67, 48: 92.31}, None, PAPER),
    Figures("NoneA-DAH", FULL, {12: 92.08, 24: 92.06, 36: 92.35, 48: 91.89}, None, GAIN),
    Figures(
        "BGAN", FULL, {}, None, f"{PAPER}: its best deep rival, length not stated", "89.4 (best)"
    ),
    Figures("SDHP", FULL, {}, None, f"{PAPER}: derived from the stated gain", "86.3 (mean)"),
    Figures(
        "COSDISH",
        FULL,
        {},
        None,
        f"{PAPER}: its best conventional rival, length not stated",
        "54.93 (best)",
    ),
    Figures("DSH", FULL, {12: 61.57, 48: 67.55}, _CNN, AGAIN),
    Figures("DTSH", FULL, {}, "pretrained on ImageNet", "not in the paper", "91.6 – 93.4"),
    Figures("MIHash", FULL, {16: 92.2, 24: 93.2, 32: 94.1, 48: 94.3}, _VGG, AUTHORS),
    Figures("GreedyHash", FULL, {48: 93.2}, _ALEXNET, AGAIN),
    Figures("DCWH", FULL, {}, "GoogLeNet, pretrained on ImageNet", AGAIN, "95.7 – 96.1"),
    Figures("LSH", SMALL, _lengths(12.1, 12.6, 12.0, 12.0), _GIST, QUOTED),
    Figures("SH", SMALL, _lengths(13.1, 13.5, 13.3, 13.0), _GIST, QUOTED),
    Figures("ITQ", SMALL, _lengths(16.2, 16.9, 17.2, 17.5), _GIST, QUOTED),
    Figures("ITQ-CCA", SMALL, _lengths(26.4, 28.2, 28.8, 29.5), _GIST, QUOTED),
    Figures("KSH", SMALL, _lengths(30.3, 33.7, 34.6, 35.6), _GIST, QUOTED),
    Figures("SDH", SMALL, _lengths(45.4, 63.3, 65.1, 66.0), "CNN-F, pretrained", QUOTED),
    Figures("COSDISH", SMALL, _lengths(58.3, 66.1, 68.0, 70.2), "CNN-F, pretrained", QUOTED),
    Figures("CNNH", SMALL, _lengths(42.9, 51.1, 50.9, 52.2), _CNN, QUOTED),
    Figures("NINH", SMALL, _lengths(55.2, 56.6, 55.8, 58.1), _CNN, QUOTED),
    Figures("DHN", SMALL, _lengths(55.5, 59.4, 60.3, 62.1), _ALEXNET, QUOTED),
    Figures("DSH", SMALL, _lengths(64.4, 74.2, 77.0, 79.9), "pretrained", f"{AGAIN}, {QUOTED}"),
    Figures("DPSH", SMALL, _lengths(71.3, 72.7, 74.4, 75.7), _VGG, AUTHORS),
    Figures("DTSH", SMALL, _lengths(71.0, 75.0, 76.5, 77.4), _VGG, QUOTED),
    Figures("DSDH", SMALL, _lengths(74.0, 78.6, 80.1, 82.0), "pretrained", QUOTED),
    Figures("DSDH", SMALL, _lengths(69.9, 72.0, 72.7, 73.5), _ALEXNET, AGAIN),
    Figures("GreedyHash", SMALL, _lengths(77.4, 79.5, 81.0, 82.2), _ALEXNET, QUOTED),
    Figures("MIHash", SMALL, _lengths(68.6, 77.5, 78.6, 81.6), _VGG, AUTHORS),
    Figures("HashNet", SMALL, {48: 79.4}, _ALEXNET, AGAIN),
    Figures("CSQ", SMALL, {64: 78.7}, _ALEXNET, AGAIN),
    Figures("OrthoHash", SMALL, {64: 82.4}, _ALEXNET, f"{AUTHORS}: at best"),
    Figures("RelaHash", SMALL, {16: 82.0, 32: 83.5, 64: 85.2, 128: 85.4}, _ALEXNET, AUTHORS),
)
PRECISION_AT_1000 = ("DAH", "> 91", f"{PAPER}: at every length")
PRECISION_WITHIN_2 = ("DAH", "> 90", f"{PAPER}: at every length")


def of(section) -> list[Figures]:
    """Returns the published figures for a section's data and protocol, which may be none.

    Images of another size are other data, for which there are no published figures.
    """
    if section.images != DATA:
        return []
    return [each for each in FIGURES if each.protocol == section.protocol]


def of_the_paper(section) -> list[Figures]:
    """Returns those that the paper states at single lengths, which plots show as lines."""
    return [each for each in of(section) if each.values and PAPER in each.source]


def applies(section) -> bool:
    """Returns whether the paper's own figures are for a section's data and protocol."""
    return bool(of_the_paper(section))
