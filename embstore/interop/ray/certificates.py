"""Certificates for servers that other machines reach: self-signed, each for one address.

The certificate is handed to clients through Ray, and they trust it alone. Its private key is in a
directory that only this user may read, and is deleted as soon as the server has read it.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from embstore.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_SECONDS = 120.0
_DAYS = 3650  # The key lives in one process, and ends with it.
_CONFIGURATION = """[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = embstore
[extensions]
subjectAltName = IP:{ip}
basicConstraints = critical, CA:TRUE
"""


@contextmanager
def certificate_for(ip: str) -> Iterator[tuple[Path, Path]]:
    """Make a certificate for an IP address; yield the files of it and of its key, then delete both.

    Raises
    ------
    RemoteError
        If the command ``openssl`` is missing, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="embstore-") as name:
        folder = Path(name)
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        configuration = folder / "openssl.cnf"
        configuration.write_text(_CONFIGURATION.format(ip=ip))
        command: list[str | Path] = ["openssl", "req", "-x509", "-days", str(_DAYS)]
        command += ["-config", configuration]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", key, "-out", certificate]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE_SECONDS,
                check=True,
            )
        except FileNotFoundError:
            raise RemoteError(
                f"other machines can connect to {ip}, so the server needs a certificate, which the "
                "command openssl makes; install it on each node, as with: apt-get install openssl"
            ) from None
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", None) or str(error).encode()
            shown = told.decode(errors="replace")[-300:]
            raise RemoteError(f"openssl cannot make a certificate for {ip}: {shown}") from None
        yield certificate, key
