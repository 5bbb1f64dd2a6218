"""A throwaway certificate authority, made by openssl in a temporary folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers import launch

DAYS = "2"
NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


class Authority:
    """An authority that lives as long as the folder; `certificate` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        """Make the authority's key and certificate."""
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca-key.pem"
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS),
            *("-subj", "/CN=Flashsale throwaway authority"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def server_pem(self) -> Path:
        """Return a file with a key and a certificate for the loopback address."""
        key, request, extensions = (self.folder / f"server.{end}" for end in ("key", "csr", "ext"))
        signed, both = self.folder / "server.crt", self.folder / "server.pem"
        extensions.write_text(NAMES)
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
            *("-keyout", str(key), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-days", DAYS, "-CAcreateserial"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-extfile", str(extensions), "-out", str(signed)),
        )
        both.write_text(key.read_text() + signed.read_text() + self.certificate.read_text())
        return both

    def _openssl(self, *arguments: str) -> None:
        binary = launch.program("kafka", ["openssl"], "openssl")
        subprocess.run([binary, *arguments], capture_output=True, check=True)
