"""Small disks for servers that a drill fills up: memory that this machine lets us mount."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

CHUNK_BYTES = 1 << 20


@attrs.frozen
class Disk:
    """A file system of its own, of a size that can be filled."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free: whoever needs one more from now on is told that there is none."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                free = shutil.disk_usage(self.folder).free
                os.posix_fallocate(file.fileno(), file.tell(), max(free, CHUNK_BYTES // 256))
                file.seek(0, os.SEEK_END)

    def relieve(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(size_bytes: int) -> Iterator[Disk | None]:
    """Have a disk of so many bytes; None where nothing may be mounted (no root, a container)."""
    folder = Path(tempfile.mkdtemp(prefix="flashsale-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "flashsale-drill", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        folder.rmdir()
        yield None
        return
    folder.chmod(0o711)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
