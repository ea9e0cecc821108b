"""Makes the captions of pictures, and finds out which neighbours are wrong. Plain text only."""


def shown(text):
    """Returns one line that hides nothing. Control characters, direction marks and halves of
    characters appear as escapes, such as `\\n` and `\\u202e`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def name(neighbour):
    """Returns a neighbour's key, or its id if it has no key, or "" if it has neither."""
    if neighbour["key"]:
        return shown(neighbour["key"])
    return "" if neighbour["id"] is None else f"id {neighbour['id']}"


def is_wrong(answer, neighbour):
    """Returns the known judgement, or else whether both labels are known and share no class."""
    if "wrong" in neighbour:
        return neighbour["wrong"]
    wanted, found = _classes(answer["label"]), _classes(neighbour["label"])
    return bool(wanted and found) and wanted.isdisjoint(found)


def judged(answer):
    """Returns whether the labels of the query and of at least one neighbour are known."""
    return bool(_classes(answer["label"])) and any(
        _classes(each["label"]) for each in answer["neighbours"]
    )


def precision(answer):
    """Returns `(right, n)`, the number of right neighbours and of all neighbours. Returns None if
    there are no neighbours or if a label is unknown."""
    neighbours = answer["neighbours"]
    told = [each for each in neighbours if "wrong" in each]
    known = [_classes(each["label"]) for each in [answer, *neighbours]]
    if not neighbours or not (all(known) or len(told) == len(neighbours)):
        return None
    return sum(not is_wrong(answer, each) for each in neighbours), len(neighbours)


def _classes(label):
    return {part.strip() for part in label.split(";")} - {""}
