"""What to do next, as HTML: commands as code, everything escaped."""

from __future__ import annotations

import pytest

from embedq.http.rendering import step


@pytest.mark.parametrize(
    ("text", "html"),
    [
        pytest.param("embedq resume", "<code>embedq resume</code>", id="a command alone"),
        pytest.param("wait until it has started", "wait until it has started", id="no command"),
        pytest.param(
            "`embedq recent`, then <look>",
            "<code>embedq recent</code>, then &lt;look&gt;",
            id="a command and words that are escaped",
        ),
        pytest.param("run `a <b>` or `c`", "run <code>a &lt;b&gt;</code> or <code>c</code>", id="two commands"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_commands_are_code(text: str, html: str) -> None:
    assert str(step(text)) == html
