r"""Standard streams that escape what they cannot encode.

A terminal, a pipe or ``PYTHONIOENCODING`` may ask for ASCII or Latin-1, and a word or a path may
have other characters. These are written as in ``\u65e5`` instead of ending the command.
"""

import codecs
import io
import sys

_ASCII = "embstore_ascii"


def prepare_streams() -> None:
    """Let standard output and standard error escape what they cannot encode."""
    codecs.register(_find_codec)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Typer takes a stream that is called ASCII for a mistake, and writes UTF-8 to it.
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            encoding = _ASCII if is_ascii else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def shows_unicode() -> bool:
    """Say whether standard output has a Unicode encoding."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def shown(text: str) -> str:
    """Return a text as standard output will show it, for laying out columns."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def typed(word: str) -> str:
    """Return a word of the command line that is UTF-8, also where the locale's encoding is ASCII.

    >>> typed("like")
    'like'
    >>> typed("caf\\udcc3\\udca9") == "caf\\u00e9"
    True
    """
    if word.isascii():
        return word
    try:
        # Python keeps bytes that it cannot decode as lone surrogates.
        return word.encode("ascii", "surrogateescape").decode()
    except UnicodeError:
        return word


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII:
        return None
    found = codecs.lookup("ascii")
    return codecs.CodecInfo(
        found.encode,
        found.decode,
        incrementalencoder=found.incrementalencoder,
        incrementaldecoder=found.incrementaldecoder,
        name=_ASCII,
    )
