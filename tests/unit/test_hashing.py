"""The hashing provider: the same everywhere, lexical, and bounded whatever the text."""

from __future__ import annotations

import argparse
import bz2
import concurrent.futures
import csv
import gzip
import hashlib
import html
import inspect
import json
import lzma
import os
import random
import shutil
import smtplib
import statistics
import subprocess
import sys
import tempfile
import threading
import uuid
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedq.errors import ConfigError
from embedq.model import Model
from embedq.providers.hashing import HashingProvider, vector_of
from embedq.providers.lexical import MAX_CHARACTERS, stem, terms

ROOT = Path(__file__).resolve().parents[2]
MODULES = (argparse, bz2, csv, gzip, hashlib, html, json, lzma, os, random, shutil, smtplib, statistics, subprocess, tempfile)
MORE_MODULES = (threading, uuid, zipfile, zlib, concurrent.futures, inspect)

# What hashing-v1 makes of GOLDEN_TEXT. Stored vectors were made so: another result needs another model name.
GOLDEN_TEXT = "zlib.compress\n\nReturns the compressed bytes of a naïve 日本語 text, in 2 steps 🎉"
GOLDEN = "f3eb45b0ee8f9136"


def provider(dimensions=384):
    return HashingProvider(Model("hashing", "hashing-v1", dimensions))


def likeness(one, other):
    vectors = provider().embed([one, other]).vectors
    return float(vectors[0] @ vectors[1])


@pytest.fixture(scope="module")
def documentation():
    """Articles out of docstrings: title and content, as they are embedded."""
    found = {}
    for module in MODULES + MORE_MODULES:
        found[module.__name__] = inspect.getdoc(module)
        for name, member in vars(module).items():
            if not name.startswith("_") and (inspect.isclass(member) or inspect.isroutine(member)):
                found[f"{module.__name__}.{name}"] = inspect.getdoc(member)
    titles = [title for title, doc in found.items() if doc]
    return titles, provider().embed([f"{title}\n\n{found[title]}" for title in titles]).vectors


@pytest.mark.parametrize(
    ("search", "right"),
    [
        pytest.param("compress a file", {"gzip.compress", "zlib.compress", "bz2.compress", "lzma.compress"}, id="compress"),
        pytest.param("parse command line arguments", {"argparse", "argparse.ArgumentParser"}, id="command line"),
        pytest.param("wait for several threads", {"threading.Barrier", "concurrent.futures.wait"}, id="threads"),
        pytest.param("copy a directory tree", {"shutil.copytree"}, id="directory tree"),
        pytest.param("median of numbers", {"statistics.median"}, id="median"),
        pytest.param("escape html characters", {"html.escape"}, id="escape"),
        pytest.param("generate a uuid", {"uuid.uuid4", "uuid.uuid1"}, id="uuid"),
    ],
)
def test_a_search_of_the_documentation_finds_a_right_answer_among_the_first_five(documentation, search, right):
    titles, vectors = documentation

    scores = vectors @ provider().embed([search]).vectors[0]

    assert right & {titles[place] for place in np.argsort(-scores)[:5]}


def test_another_process_with_another_hash_seed_makes_the_same_vector():
    code = f"from embedq.providers.hashing import vector_of; print(vector_of({GOLDEN_TEXT!r}, 384).tobytes().hex())"

    seen = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }

    assert len(seen) == 1


def test_the_model_still_makes_the_vectors_that_are_stored():
    rounded = np.round(vector_of(GOLDEN_TEXT, 384) * 10_000).astype("<i2")

    assert hashlib.sha256(rounded.tobytes()).hexdigest()[:16] == GOLDEN


@settings(deadline=None)
@given(text=st.text(min_size=1).filter(str.strip), dimensions=st.sampled_from([16, 17, 64, 384]))
def test_any_text_has_a_finite_vector_of_unit_length(text, dimensions):
    vectors = provider(dimensions).embed([text]).vectors

    assert vectors.shape == (1, dimensions)
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x" * 10_000_000, id="one endless word"),
        pytest.param("word " * 2_000_000, id="one word, often"),
        pytest.param(" ".join(map(str, range(1_500_000))), id="endless different words"),
        pytest.param("語" * 10_000_000, id="no spaces"),
        pytest.param("." * 10_000_000, id="punctuation"),
        pytest.param(" " * 10_000_000 + "x", id="blanks"),
    ],
)
@pytest.mark.timeout(30)
def test_a_text_of_ten_million_characters_is_bounded_work(text):
    assert np.isfinite(provider().embed([text]).vectors).all()


def test_only_the_first_characters_are_read():
    text = "tea " * (MAX_CHARACTERS // 4)

    assert likeness(f"title\n\n{text}", f"title\n\n{text} and much more coffee") == pytest.approx(1)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        pytest.param("compression", "compressed", id="endings"),
        pytest.param("threads", "Thread", id="plural and case"),
        pytest.param("stopped", "stopping", id="a doubled letter"),
        pytest.param("zipfile", "zip file", id="a compound"),
        pytest.param("parse_args", "parse arguments", id="snake case and an abbreviation"),
        pytest.param("HTTPServer", "http server", id="camel case"),
        pytest.param("ﬁle", "file", id="a ligature"),
    ],
)
def test_forms_of_a_word_are_near_each_other(one, same):
    assert likeness(one, same) > 0.5


def test_stop_words_hardly_count():
    assert likeness("compress a file", "compress the file") > 0.95


def test_a_text_of_stop_words_alone_still_has_a_vector():
    assert likeness("to be or not to be", "to be or not to be") == pytest.approx(1)


def test_a_text_whose_words_cancel_each_other_still_has_a_vector():
    vectors = provider(16).embed(["are he hers then"]).vectors

    assert np.linalg.norm(vectors) == pytest.approx(1)


def test_unrelated_texts_are_far_from_each_other():
    assert abs(likeness("compress a file", "wait for several threads")) < 0.3


def test_the_title_counts_more_than_the_body():
    body = "It says a lot about harbours, ships, cranes and cargo.\nThey are loaded at night."

    assert likeness(f"Teapots\n\n{body}", "teapots") > likeness(f"Harbours\n\n{body} Teapots.", "teapots")


def test_terms_of_an_identifier_are_its_parts_and_itself():
    assert terms("zipfile") == ["zip", "fil", "zipfil"]


@pytest.mark.parametrize("word", ["ring", "bus", "class", "ys", "über", "x2", "sss"])
def test_what_is_no_ending_stays(word):
    assert stem(word) == word


@pytest.mark.parametrize("dimensions", [-1, 0, 15])
def test_too_few_dimensions_are_a_mistake_in_the_settings(dimensions):
    with pytest.raises(ConfigError, match=f"{dimensions} dimensions") as mistake:
        provider(dimensions)

    assert "16 or more" in mistake.value.hint
