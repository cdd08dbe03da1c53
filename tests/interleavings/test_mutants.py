"""The explorer finds what it is for: each fix is taken out, and what it had put right is found again."""

from __future__ import annotations

import pytest

from embedq.local.servers import Servers

from .case import Explorer, read
from .crew import explore, fresh_world
from .mutants import MUTANTS, mutated

MOST = 300


def said(explorer: Explorer, name: str, until: str | None = None) -> list[str]:
    """All that is wrong with a case, as `--replay` names it; `until`: or what is, up to where this is said."""
    written = name if name.count("/") == 2 else f"{name}/read_committed"
    return [violation.problem for violation in explore(explorer, read(f"{written}/")[0], most=MOST, stop_at=until).violations]


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_fix_the_explorer_finds_what_it_put_right(servers: Servers, template: str, name: str):
    mutant = MUTANTS[name]

    with fresh_world(servers.admin_url, "mutant", template) as world, mutated(name, world):
        after = {case: said(Explorer(world), case, mutant.says) for case in mutant.cases}

    for case, problems in after.items():
        assert any(mutant.says in problem for problem in problems), f"{case}: {problems}"
