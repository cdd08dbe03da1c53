"""The tutorial, line by line as it is printed: every command does what it says, and the search finds what was written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support import Process, until


def typed(page: str) -> list[str]:
    return re.findall(r"^ +\$ (.+)$", page, re.MULTILINE)


def sql(page: str) -> list[str]:
    return re.findall(r"^ +([A-Z]+ .+;)$", page, re.MULTILINE)


def lines(page: str) -> list[tuple[str, str]]:
    """Commands and SQL in the order in which a reader comes to them."""
    found = re.findall(r"^ +(?:(\$) (.+)|([A-Z]+ .+;))$", page, re.MULTILINE)
    return [("command", command) if sign else ("sql", statement) for sign, command, statement in found]


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
def test_the_tutorial_can_be_copied_and_pasted(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "tutorial.rst").read_text(encoding="utf-8")
    first, second = page.split("\nSecond half")
    commands = typed(first)
    after_up = commands[commands.index("embedq up") + 1 :]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"EMBEDQ_HOME": str(tmp_path / "home"), "PATH": path, "COLUMNS": "120"}

    said: dict[str, str] = {}

    def run(line: str, address: str) -> None:
        here = line.replace("http://127.0.0.1:8000", address)
        ran = subprocess.run(
            ["bash", "-c", here], env=os.environ | environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
        )
        assert ran.returncode == 0, f"{line}: {ran.stdout}{ran.stderr}"
        said[line] = ran.stdout

    with Process("up", [sys.executable, "-m", "embedq", "up", "--flower-port", "0"], environment) as up:
        up.says("Application startup complete", timeout_s=90)
        until(lambda: "poller poller@" in up.output() and " ready." in up.output(), 60, up.output)
        address = re.search(r"cockpit: (http://\S+)", up.output())
        assert address is not None
        assert f"data in {tmp_path / 'home'} " in up.output()
        database = json.loads((tmp_path / "home" / "running.json").read_text())["database_url"]
        for line in after_up:
            run(line, address[1])
        with psycopg.connect(database, autocommit=True) as connection:
            answers = [connection.execute(line.encode()).statusmessage for line in sql(first)]
            for kind, line in lines(second):
                if kind == "sql":
                    connection.execute(line.encode())
                else:
                    run(line, address[1])
            left = connection.execute("SELECT to_regclass('embedq_posts'), to_regclass('embedq_products')").fetchone()
        assert up.terminate(90) == 0

    found, over_http = (
        next(said[line] for line in said if line.startswith(start))
        for start in ("embedq search", "curl -fsS http://127.0.0.1:8000/api/search")
    )
    assert "Tea" in found
    assert '"slug":"tea"' in over_http
    assert answers == ["UPDATE 1", "SELECT 1"]
    assert "Green tea" in said['embedq search "leaves steeped for minutes" --source posts']
    assert "A draft" not in said['embedq search "leaves steeped for minutes" --source posts']
    in_both = said['embedq search "cast iron tea pot" --source posts --source products --json']
    assert {"sku": "6f1c0000-0000-0000-0000-000000000001"} in [hit["key"] for hit in json.loads(in_both)]
    afterwards = said['embedq search "cold brew takes a night" --source posts']
    assert "A draft" in afterwards
    assert "Green tea" not in afterwards
    assert left == ("embedq_posts", None)
