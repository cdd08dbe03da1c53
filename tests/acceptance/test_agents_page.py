"""docs/howto/agents.rst, line by line as it is printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support import Process, env, until


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
def test_an_agent_works_in_five_minutes_as_the_page_says(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "howto" / "agents.rst").read_text(encoding="utf-8")
    commands = [line for line in re.findall(r"^ +\$ (.+)$", page, re.MULTILINE) if not line.startswith("pip ")]
    program = re.search(r"code-block:: python\n\n((?:    .*\n|\n)+)", page)
    configuration = re.search(r"code-block:: json\n\n    (.+)\n", page)
    assert program is not None
    assert configuration is not None
    (tmp_path / "ask.py").write_text(textwrap.dedent(program[1]), encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    whole = env({"EMBEDQ_HOME": str(tmp_path / "home"), "PATH": path, "COLUMNS": "120"})

    said: dict[str, str] = {}
    with Process("up", [sys.executable, "-m", "embedq", "up", "--flower-port", "0"], whole) as up:
        up.says("Application startup complete", timeout_s=90)
        until(lambda: "poller poller@" in up.output() and " ready." in up.output(), 60, up.output)
        address = re.search(r"cockpit: (http://\S+)", up.output())
        assert address is not None
        for line in commands:
            here = line.replace("http://127.0.0.1:8000", address[1].rstrip("/"))
            ran = subprocess.run(["bash", "-c", here], env=whole, capture_output=True, text=True, timeout=120, cwd=tmp_path)
            assert ran.returncode == 0, f"{line}: {ran.stdout}{ran.stderr}"
            said[line.split(" -")[0]] = ran.stdout
            if line.startswith("embedq token create"):
                secret = re.search(r"embedq_[A-Za-z0-9_-]{43}", ran.stdout)
                assert secret is not None
                whole["EMBEDQ_TOKEN"] = secret[0]
        assert up.terminate(90) == 0

    assert json.loads(configuration[1])["mcpServers"]["embedq"]["args"] == ["mcp"]
    assert said["python ask.py"].count("['brewing']") == 2
    assert "seventy degrees" in said["python ask.py"]
    assert "search_articles" in said["curl"]
    assert "create_article" not in said["curl"]
    assert "assistant" in said["embedq token list"]
