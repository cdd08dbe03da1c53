"""What is built from this tree works outside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from embedq.store import schema


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", folder, root], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in a folder; everything it needs comes from the environment the tests run in."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(installed: Path, cwd: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(installed)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_wheel_holds_the_sql_and_nothing_that_is_not_the_package(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()

    assert "embedq/store/migrations/sql/0001_up.sql" in names
    assert "embedq/store/queries/tasks.sql" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"embedq"}


def test_the_commands_of_the_wheel_work_outside_the_tree(installed: Path, tmp_path: Path, servers, environment):
    for argv in (("embedq", "--version"), ("embedq", "db", "verify"), ("embedq", "status")):
        done = run(installed, tmp_path, *argv, **environment)
        assert (done.returncode, done.stderr) == (0, ""), argv

    celery = run(installed, tmp_path, "celery", "-A", "embedq", "report", **environment)
    assert (celery.returncode, "task_acks_late: True" in celery.stdout) == (0, True)


def test_flower_starts_on_the_app_of_the_wheel(installed: Path, tmp_path: Path, environment):
    done = run(installed, tmp_path, "celery", "-A", "embedq", "flower", "--help", **environment)

    assert (done.returncode, "Web based tool" in done.stdout) == (0, True)


def test_the_latest_revision_is_the_last_migration_in_the_folder():
    folder = Path(schema.__file__).parent / "migrations" / "versions"
    revisions = sorted(path.name.split("_")[0] for path in folder.glob("[0-9]*.py"))

    assert revisions[-1] == schema.LATEST
