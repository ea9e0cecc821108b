"""Holds all colours of pictures, plots and pages. Uses the standard library only."""

# This is the palette of Okabe and Ito, which colour-blind people can distinguish. Its yellow is
# left out because it is too light on white paper.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#cc79a7",
    "#56b4e9",
)
BLACK, WHITE = "#000000", "#ffffff"
SERIES = (BLUE, VERMILION, GREEN, BLACK, ORANGE, PURPLE, SKY)

# These are the colours of a page. Pictures and plots are always light.
LIGHT = {
    "page": WHITE,
    "text": "#1a1a1a",
    "soft": "#595959",
    "line": "#cccccc",
    "shade": "#f2f2f2",
    "link": BLUE,
    "wrong": VERMILION,
}
DARK = {
    "page": "#16181b",
    "text": "#ececec",
    "soft": "#a8a8a8",
    "line": "#4a4d52",
    "shade": "#24272c",
    "link": SKY,
    "wrong": "#f0752a",
}
PRINT = {**LIGHT, "text": BLACK, "soft": "#444444"}


def css() -> str:
    """Returns CSS rules that name the colours, as `var(--text)`, and follow a dark preference."""
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
        f"@media print {{ :root {{ color-scheme: light; {_variables(PRINT)} }} }}\n"
    )


def _variables(colors):
    return " ".join(f"--{name}: {color};" for name, color in colors.items())
