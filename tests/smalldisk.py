"""A PostgreSQL server whose database is on a file system of a few megabytes, to be filled and emptied. Its WAL is on another."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.failover import Node

SIZE_MB = 48
# A file system of this process alone, which ends with it.
MOUNT = 'mount -t tmpfs -o size={size}m,uid={uid},mode=700 tmpfs "$1" && shift && exec "$@"'
FILLER = "CREATE TABLE IF NOT EXISTS filler (of text); ALTER TABLE filler ALTER of SET STORAGE EXTERNAL"
# Chunks of a row become smaller, so that no page is left in which an update would find room.
ROWS = (1_000_000, 100_000, 7_000, 1_000, 100)


class SmallDisk:
    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def url(self) -> str:
        return self.node.url()

    def fill(self) -> None:
        """Until the server refuses the last kilobyte."""
        self.node.sql(FILLER)
        for size in ROWS:
            with suppress(psycopg.errors.DiskFull):
                while True:
                    self.node.sql(f"INSERT INTO filler SELECT repeat(md5(n::text), {size} / 32) FROM generate_series(1, 10) n")

    def free(self) -> None:
        self.node.sql("DROP TABLE filler")


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Skips where no file system can be mounted."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("needs a mount namespace of its own, which only root can make here")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="embedq-disk-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        node, small = Node(Path(folder) / "primary"), Path(folder) / "small"
        assert node.owner is not None
        small.mkdir()
        os.chown(folder, *node.owner)
        node.initialise()
        node.start(within=["unshare", "-m", "sh", "-c", MOUNT.format(size=SIZE_MB, uid=node.owner[0]), "sh", str(small)])
        try:
            node.sql(f"CREATE TABLESPACE small LOCATION '{small}'", "postgres")
            node.sql("CREATE DATABASE app TABLESPACE small", "postgres")
            yield SmallDisk(node)
        finally:
            node.die()
