"""Sphinx: `scripts/docs` writes the generated pages and builds docs/_build/html without a warning."""

from embedq import __version__

project = "embedq"
author = "The embedq maintainers"
copyright = "2026, the embedq maintainers"
release = version = __version__
extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Embeddings kept up to date, and a way back from anything", "page_width": "1080px"}
nitpicky = True
highlight_language = "text"
