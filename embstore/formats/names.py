"""Names from files, for messages: in quotes, in lists, and those that are spelled alike."""

from __future__ import annotations

from difflib import get_close_matches

# Spelling is compared with the names that have the most in common, because comparing is slow.
_COMPARED = 200
_MAX_LENGTH = 500


def shown(name: str) -> str:
    r"""Return a name from a file for messages: short, and without control characters.

    Examples
    --------
    >>> shown("embed.weight"), shown("\x1b[2J")
    ('embed.weight', "'\\x1b[2J'")
    """
    text = name if name.isprintable() and name else ascii(name)
    return text if len(text) <= 200 else f"{text[:197]}..."


def quoted(name: str) -> str:
    """Return a name from a file in quotes, for messages."""
    return repr(name) if len(name) <= 200 else f"{name[:200]!r}..."


def listing(names: list[str], most: int = 10) -> str:
    """Return names for messages, separated by commas; at most ``most`` of them."""
    return ", ".join(map(shown, names[:most])) + (", ..." if len(names) > most else "")


def nearest(name: str, names: list[str], most: int = 3) -> list[str]:
    """Return the names that are spelled most like one.

    Examples
    --------
    >>> nearest("embed.weigth", ["embed.weight", "norm.weight", "head.bias"])
    ['embed.weight']
    """
    names = [other for other in names if len(other) <= _MAX_LENGTH]
    if len(name) > _MAX_LENGTH:
        return []
    if len(names) > _COMPARED:
        names = sorted(names, key=lambda other: -_in_common(name, other))[:_COMPARED]
    return get_close_matches(name, names, most, 0.7)


def _in_common(name: str, other: str) -> int:
    """Return how many characters two names have in common at their starts and ends."""
    start = next((i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), 0)
    pairs = zip(reversed(name), reversed(other), strict=False)
    return start + next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
