"""locks/ holds what setup.cfg wants: each package once for each environment, with hashes, and with no word of where it came from."""

from __future__ import annotations

import configparser
import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("runtime", "build", "dev")
ENVIRONMENTS = [
    {
        "python_version": version,
        "python_full_version": f"{version}.9",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    for version, machine in product(("3.11", "3.12", "3.13"), ("x86_64", "aarch64"))
]


def locked(name: str) -> dict[Requirement, list[str]]:
    """Each entry with its hashes."""
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {
        Requirement(line.partition("--hash")[0].strip()): re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line) for line in lines
    }


def wanted(name: str) -> list[Requirement]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    runtime = setup["options"]["install_requires"].splitlines()
    lines = {
        "runtime": runtime,
        "build": build,
        "dev": [*runtime, *setup["options.extras_require"]["dev"].splitlines(), *build],
    }[name]
    return [Requirement(line) for line in lines if line.strip() and not line.strip().startswith("#")]


def applies(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate({**default_environment(), "extra": "", **environment})


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_what_setup_cfg_wants(name: str) -> None:
    """Run scripts/lock after a change of setup.cfg."""
    entries = locked(name)

    for environment in ENVIRONMENTS:
        versions = {
            canonicalize_name(entry.name): str(entry.specifier)[2:] for entry in entries if applies(entry.marker, environment)
        }
        unmet = [
            str(requirement)
            for requirement in wanted(name)
            if applies(requirement.marker, environment)
            and not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
        ]
        assert unmet == [], environment


@pytest.mark.parametrize("name", LOCKS)
def test_each_entry_is_one_version_with_hashes(name: str) -> None:
    for entry, hashes in locked(name).items():
        assert re.fullmatch(r"==[^,*]+", str(entry.specifier)), entry
        assert hashes, entry
        assert entry.url is None, entry


@pytest.mark.parametrize("name", LOCKS)
def test_no_environment_gets_a_package_twice(name: str) -> None:
    for environment in ENVIRONMENTS:
        names = [canonicalize_name(entry.name) for entry in locked(name) if applies(entry.marker, environment)]
        assert len(names) == len(set(names)), environment


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_registry_and_no_folder(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")

    assert re.findall(r"https?:|file:|--(?:extra-)?index-url|--find-links|--trusted-host|(?<![\w-])/\w+/", text) == []


def test_what_is_tested_is_what_the_image_holds() -> None:
    """Of the packages that both locks hold, the versions are the same."""
    runtime, dev = (
        {(entry.name, str(entry.marker)): str(entry.specifier) for entry in locked(name)} for name in ("runtime", "dev")
    )

    assert {key: (version, dev[key]) for key, version in runtime.items() if key in dev and dev[key] != version} == {}
    assert {name for name, _ in runtime} - {name for name, _ in dev} == set()
