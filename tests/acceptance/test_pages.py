"""The how-to pages about frameworks: each file of a page is written, each command typed, and what comes back is what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, Process, env, free_port, start_poller

FILE = re.compile(r"^\.\. code-block:: python\n   :caption: (\S+)\n\n((?:    .*\n|\n)+)", re.MULTILINE)
LINES = re.compile(r"^    \$ (.+)$", re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / "docs" / "howto" / f"{name}.rst").read_text(encoding="utf-8")


def write_files(text: str, folder: Path) -> list[str]:
    """The names of the page's files, which are written to the folder."""
    for name, indented in FILE.findall(text):
        (folder / name).write_text(re.sub(r"^    ", "", indented, flags=re.MULTILINE), encoding="utf-8")
    return [name for name, _ in FILE.findall(text)]


def typed(text: str, *programs: str) -> list[str]:
    return [line for line in LINES.findall(text) if line.split()[0] in programs]


@pytest.fixture
def poller(environment, psql):
    """A worker process; mode database."""
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(environment) as process:
        yield process


@pytest.fixture
def run(environment, tmp_path):
    """Runs a command of a page in the folder of its files, to its end; what it wrote."""

    def bash(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], env=env(environment) | path(), cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    return bash


def path() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


SERVERS = {"fastapi": ("uvicorn", "Application startup complete"), "django": ("python", "Quit the server")}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
@pytest.mark.parametrize("name", SERVERS)
def test_a_page_about_a_web_framework_can_be_copied_and_pasted(name, environment, psql, poller, run, tmp_path):
    pytest.importorskip(name, reason=f"pip install {name}")
    text, port = page(name), str(free_port())
    program, ready = SERVERS[name]
    write_files(text, tmp_path)
    (start,) = typed(text, program)
    post, get = typed(text, "curl")
    (wait,) = (line for line in typed(text, "embedq") if line.startswith("embedq wait"))

    with Process(name, ["bash", "-c", f"cd {tmp_path} && exec {start.replace('8001', port)}"], environment | path()) as server:
        server.says(ready)
        run(post.replace("8001", port))
        run(wait)
        found = run(get.replace("8001", port))

    assert "Steep it for three minutes" in found
    assert psql("SELECT DISTINCT priority FROM embedding_tasks") == [("high",)]


def test_the_fastapi_page_edits_in_the_transaction_of_the_application(environment, settings, psql, poller, run, tmp_path):
    from embedq import Client

    port = str(free_port())
    write_files(page("fastapi"), tmp_path)
    (start,) = typed(page("fastapi"), "uvicorn")
    with Client(settings) as client:
        client.create("Tea", "steeped", id="tea")
        client.wait(["tea"])

    with Process(
        "fastapi", ["bash", "-c", f"cd {tmp_path} && exec {start.replace('8001', port)}"], environment | path()
    ) as server:
        server.says("Application startup complete")
        run(f"curl -fsS -X PUT '127.0.0.1:{port}/notes/tea/content?content=brewed'")
        refused = run(f"curl -sS '127.0.0.1:{port}/search?q='")

    assert psql("SELECT content FROM articles") == [("brewed",)]
    assert psql("SELECT priority, metadata->>'reason' FROM embedding_tasks ORDER BY id DESC LIMIT 1") == [("urgent", "by hand")]
    assert "the query is empty" in refused


@pytest.mark.parametrize(("file", "module"), [("chain.py", "langchain_core"), ("index.py", "llama_index.core")])
def test_a_page_about_retrieval_prints_what_its_file_prints(file, module, poller, run, tmp_path):
    pytest.importorskip(module, reason="pip install 'embedq[langchain,llama-index]'")
    text = page("langchain")
    assert file in write_files(text, tmp_path)

    said = run(f"python {file}")

    shown = re.search(rf"^    \$ python {file}\n((?:    .+\n)+)", text, re.MULTILINE)
    assert shown is not None
    assert words(said) == words(shown[1])


def words(text: str) -> list[str]:
    """Without the scores, which are the model's."""
    return re.sub(r"^ *\d\.\d\d ", "", text, flags=re.MULTILINE).split()
