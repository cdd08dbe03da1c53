"""The environment variables of child processes. Servers get no settings, so that their environment contains no secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping

SYSTEM = ("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def of_a_server(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a server: PATH, locale and time zone."""
    return {name: value for name, value in environment.items() if name in SYSTEM or name.startswith("LC_")}


def of_a_program(environment: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """The variables that Python and the user's home folder need, and those named."""
    plain = ("HOME", "USER", "LOGNAME", "TMPDIR", "VIRTUAL_ENV", *names)
    return of_a_server(environment) | {
        name: value for name, value in environment.items() if name in plain or name.startswith(("PYTHON", "XDG_"))
    }


def without(environment: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}
