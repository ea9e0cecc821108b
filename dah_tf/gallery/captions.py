"""What stands beside a picture, and which neighbours are wrong. Plain text, of no format."""


def shown(text):
    """One line that hides nothing: control characters, marks of direction and halves of
    characters appear as escapes, such as `\\n` and `\\u202e`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def name(neighbour):
    """A neighbour's key, or its id where it has none; "" where it has neither."""
    if neighbour["key"]:
        return shown(neighbour["key"])
    return "" if neighbour["id"] is None else f"id {neighbour['id']}"


def is_wrong(answer, neighbour):
    """What is known to be wrong, else whether both labels are known and share no class."""
    if "wrong" in neighbour:
        return neighbour["wrong"]
    wanted, found = _classes(answer["label"]), _classes(neighbour["label"])
    return bool(wanted and found) and wanted.isdisjoint(found)


def judged(answer):
    """Whether the query and any of its neighbours have known labels."""
    return bool(_classes(answer["label"])) and any(
        _classes(each["label"]) for each in answer["neighbours"]
    )


def precision(answer):
    """How many neighbours are right: `(right, n)`; None where there are none, or a label is
    unknown."""
    neighbours = answer["neighbours"]
    told = [each for each in neighbours if "wrong" in each]
    known = [_classes(each["label"]) for each in [answer, *neighbours]]
    if not neighbours or not (all(known) or len(told) == len(neighbours)):
        return None
    return sum(not is_wrong(answer, each) for each in neighbours), len(neighbours)


def _classes(label):
    return {part.strip() for part in label.split(";")} - {""}
