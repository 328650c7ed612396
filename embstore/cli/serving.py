"""The command ``embstore serve``: a store for other processes and machines."""

import signal
from types import FrameType
from typing import Any

import typer

import embstore
from embstore.cli.arguments import TableArgument
from embstore.cli.console import printable
from embstore.cli.options import options_of
from embstore.paths import url_of
from embstore.wording import for_python

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Ended(BaseException):
    """A signal that ends the server."""


# A token on the command line could be read by every user of the machine.
@options_of(embstore.serve, without=("token",))
def serve(store: TableArgument, **options: Any) -> None:
    """Serve rows and words to other processes and machines, until a signal ends it.

    Prints one line: "serving PATH at grpc://HOST:PORT". SIGTERM and SIGINT (Ctrl-C) end it: running
    requests may end for --grace seconds, and the exit status is 0. A second signal ends it at once.

    \b
    Examples:
      embstore serve glove.embstore
      embstore serve glove.embstore --partitions 0,3 --port 8815
      embstore serve model.safetensors --tensor embed.weight
      embstore serve glove.embstore --host 10.0.0.5 --token-file token.txt
        --tls-cert cert.pem --tls-key key.pem
    """
    for number in _SIGNALS:
        signal.signal(number, _end)
    try:
        with embstore.serve(store, **options) as server:
            typer.echo(f"serving {printable(url_of(store) or store)} at {server.address}")
            with for_python():  # Its clients are programs.
                server.wait()
    except _Ended:
        return


def _end(number: int, frame: FrameType | None) -> None:
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_DFL)
    raise _Ended
