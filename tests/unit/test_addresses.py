"""Addresses that never print, and what is refused because its parts cannot be told apart (G10)."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from dataclasses import asdict, replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.address_kinds import of_broker, of_http, of_postgres, plain
from embedq.addresses import MASK, Address, hide, secret_of, shown
from embedq.decide.configuration import Setting, kept
from embedq.setting_values import BROKERS
from embedq.settings import Settings, from_env

RAW = "amqp://bob:ONE-canary@h1:5672/v;amqp://zoe:TWO-canary@h2/v?password=THREE-canary"
SHOWN = "amqp://h1:5672/v;amqp://h2/v"


@pytest.mark.parametrize(
    "print_it",
    [
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
        pytest.param(lambda address: f"{address} {address!s} {address!r} {address:>80}", id="format"),
        pytest.param(lambda address: "%s %r" % (address, address), id="percent"),  # noqa: UP031
        pytest.param(lambda address: "x" + address + "x", id="concatenation"),
        pytest.param(lambda address: json.dumps({"url": address}), id="json"),
        pytest.param(lambda address: repr(vars(address)), id="vars"),
        pytest.param(lambda address: repr([address, {address: address}]), id="in containers"),
        pytest.param(lambda address: pickle.dumps(address).decode("latin-1"), id="pickle"),
        pytest.param(lambda address: repr(Settings(broker_url=address)), id="settings"),
        pytest.param(lambda address: repr(asdict(Settings(broker_url=address))), id="settings as a dictionary"),
        pytest.param(lambda address: repr(replace(Settings(), broker_url=str.__str__(RAW))), id="settings from a string"),
        pytest.param(lambda address: logging.LogRecord("x", 20, "x", 1, "%s", (address,), None).getMessage(), id="a log line"),
        pytest.param(lambda address: "".join(address.partition("nothing")), id="a method of strings"),
        pytest.param(lambda address: address.encode().decode(), id="bytes"),
    ],
)
def test_an_address_shows_nothing_whatever_prints_it(print_it):
    said = print_it(Address(RAW))

    assert "canary" not in said
    assert "bob" not in said
    assert "zoe" not in said


def test_an_address_shows_where_it_leads_and_connects_with_all_of_it():
    address = Address(RAW)

    assert (str(address), address.shown, address.secret, secret_of(address), secret_of(RAW)) == (SHOWN, SHOWN, RAW, RAW, RAW)
    assert copy.deepcopy(address).secret == copy.copy(address).secret == RAW
    assert not Address("")


def test_addresses_are_equal_when_their_secrets_are():
    assert Address(RAW) == RAW
    assert Address(RAW) == Address(RAW)
    assert Address(RAW) != Address(RAW.replace("ONE", "OTHER"))
    assert len({Address(RAW), Address(RAW), Address(SHOWN)}) == 2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", ""),
        ("postgresql://u:p@h1:5432,h2:5433/app?target_session_attrs=read-write", "postgresql://h1:5432,h2:5433/app"),
        ("postgresql+psycopg://u:p@h/app", "postgresql+psycopg://h/app"),
        ("postgresql:///app?host=/run/postgresql&user=u&password=p", "postgresql:///app?host=/run/postgresql"),
        ("postgresql://u:p@/app", "postgresql:///app"),
        ("postgresql://?service=books", "postgresql://?service=books"),
        ("postgresql://u:p@[::1]:5433/app", "postgresql://[::1]:5433/app"),
        ("postgresql://u:a;b%3B@h/app", "postgresql://h/app"),
        ("host=h port=6000 user=u password=p dbname=app", "h:6000/app"),
        ("host=h1,h2 port=6000 user=u password=p dbname=app", "h1,h2:6000/app"),
        ("service=books password=p", "service books"),
        ("dbname=app password=p", "local socket:5432/app"),
        ("host='h1 password=p", "(an address that cannot be understood)"),
        ("redis://:p@h:6379/0", "redis://h:6379/0"),
        ("rediss://h/0?password=p", "rediss://h/0"),
        ("https://h/v1", "https://h/v1"),
        ("https://u:p@h:8443/openai/v1?key=p#x", "(an address that cannot be understood)"),
        ("https://h/services/T0000/B0000/XXXX", "https://h/…"),
        ("http://[::1]:11434", "http://[::1]:11434"),
        ("no address", "(an address that cannot be understood)"),
        ("postgresql://u:pa/ss@h/app", "(an address that cannot be understood)"),
        ("postgresql://u:5/ss@h/app", "(an address that cannot be understood)"),
        ("postgresql://u:5?host=ss@h/app", "(an address that cannot be understood)"),
        ("postgresql://u:5#ss@h/app", "(an address that cannot be understood)"),
        ("postgresql://u:5@ss@h/app", "postgresql://h/app"),
        ("postgresql://u:ss/app", "(an address that cannot be understood)"),
        ("http://[::1", "(an address that cannot be understood)"),
    ],
)
def test_what_is_shown_of_an_address(raw, said):
    assert shown(raw) == said


GOOD = {
    of_postgres: [
        "postgresql://u:p%25%40%2F%3A%3F%23@h:5432/app?sslmode=require&sslpassword=x",
        "postgres://h1,h2:5433/app",
        "postgresql://%2Frun%2Fpostgresql/app",
        "postgresql://u@[::1]:5432/app",
        "postgresql://ü:ß@h/app",
        "host=/run/postgresql dbname='my app' password='a b'",
    ],
    lambda raw: of_broker(raw, BROKERS): [
        "redis://:p@h:6379/0",
        "redis://user:p@ss@h/0",
        "amqp://u:p@h1/v;amqp://u:p@h2/v",
        "unix:///run/redis.sock?db=1",
        "redis+socket:///run/redis.sock",
        "sentinel://h1:26379/0?master_name=mymaster;sentinel://h2:26379",
        "amqps://u:p@h:5671//?heartbeat=10",
    ],
    of_http: ["http://127.0.0.1:11434", "https://u:p@h/v1?api-version=1", "http://[::1]:8080/v1/"],
}


@pytest.mark.parametrize(("parse", "raw"), [(parse, raw) for parse, several in GOOD.items() for raw in several])
def test_an_address_of_a_usual_form_is_taken_as_it_is(parse, raw):
    assert parse(raw).secret == raw


CANARY = "CaNaRy7"
BREAKS = [
    "%",
    "%zz",
    "%00",
    ";",
    "@",
    ":",
    "/",
    "?",
    "#",
    "[",
    "]",
    " ",
    "\n",
    "\t",
    "\x1b",
    "é",
    "'",
    '"',
    "\\",
    "=",
    "&",
    ",",
    "{",
    "\u202e",
]
TEMPLATES = {
    "DATABASE_URL": [
        "postgresql://{0}:pw@h/db",
        "postgresql://u:{0}@h/db",
        "postgresql://u:p@h/db?sslpassword={0}",
        "postgresql://u:p@h/db?{0}=x",
        "postgresql://u:p@h:{0}/db",
        "postgresql://u:p@h/db#{0}",
        "postgres:/u:{0}@h/db",
        "u:{0}@h/db",
        "://u:{0}@h/db",
        "host=h user={0} password={0}",
        "host=h password={0} nonsense",
        "host=h {0}=x",
        "mysql://u:{0}@h/db",
        "postgresql://u:p@h1:1,h2:{0}/db",
        "postgresql://u:p@[{0}]/db",
        "postgresql://u:p@h/db?connect_timeout={0}",
        "postgresql://u:p@h/db?sslmode={0}",
    ],
    "REDIS_URL": [
        "redis://{0}:pw@h/0",
        "redis://:{0}@h/0",
        "redis://h:{0}/0",
        "redis://h/0?password={0}",
        "redis://h/0#{0}",
        "redis:{0}",
        "http://u:{0}@h",
    ],
    "EMBEDDING_BROKER_URL": [
        "amqp://u:p@h1/v;amqp://u:{0}@h2/v",
        "amqp://u:p@h1/v;{0}",
        "amqp://u:{0}@h1:x/v;amqp://h2",
        "amqp://u:p@h1/v;amqp://h2:{0}/v",
        "amqp://u:{0}@h1,h2/v",
        "sqs://{0}:x@h",
    ],
    "OPENAI_BASE_URL": [
        "http://{0}:pw@h/v1",
        "http://u:{0}@h/v1",
        "http://h/v1?key={0}",
        "http://h/v1#{0}",
        "http://h/{0}/v1",
        "http://h:{0}/v1",
        "h/{0}",
        "ftp://u:{0}@h",
        "http://",
        "http://u:{0}@",
        "http://u:{0}@:80",
    ],
    "OLLAMA_BASE_URL": ["http://u:{0}@h", "http://h?key={0}", "http:///{0}", "http://[{0}]/"],
}


def every_broken_address():
    for name, templates in TEMPLATES.items():
        for template in templates:
            for broken in ["", *BREAKS]:
                if broken in (",", "@") and ":{0}/" in template:  # then it is the name of another host
                    continue
                for canary in (f"{CANARY}{broken}", f"{broken}{CANARY}", f"{CANARY}{broken}{CANARY}"):
                    yield name, template.format(canary)


def test_a_canary_in_any_part_of_any_address_broken_in_any_way_never_shows():
    """Nothing of it is in the settings' own words, in what is kept of them, or in an error; and no error is any other than ours."""
    from embedq.errors import ConfigError

    refused = taken = 0
    for name, raw in every_broken_address():
        try:
            settings = from_env({name: raw})
            of = {
                "DATABASE_URL": settings.database_url,
                "REDIS_URL": settings.redis_url,
                "EMBEDDING_BROKER_URL": settings.broker_url,
                "OPENAI_BASE_URL": settings.openai_base_url,
                "OLLAMA_BASE_URL": settings.ollama_base_url,
            }[name]
            setting = Setting(name, of, secret=False, given=True)
            said = f"{settings} {of} {setting.shown}"
            assert of.secret == raw.strip()
            taken += 1
        except ConfigError as wrong:
            said = f"{wrong} {wrong.hint} {wrong.__context__} {wrong.__cause__}"
            refused += 1
        assert CANARY.lower() not in said.lower(), (name, raw, said)
    assert min(refused, taken) > 100


def test_what_is_kept_of_an_address_is_a_digest():
    setting = Setting("OPENAI_BASE_URL", of_http(f"https://u:{CANARY}@h/v1?key={CANARY}"), secret=False, given=True)

    assert CANARY not in json.dumps(kept([setting]))
    assert kept([setting])["settings"]["OPENAI_BASE_URL"]["shown"] == "https://h/v1"


@given(st.text(max_size=60))
def test_nothing_that_is_given_ends_in_another_error(raw):
    for parse in (of_postgres, of_http, lambda text: of_broker(text, BROKERS)):
        try:
            parse(raw)
        except ValueError as wrong:
            assert wrong.__context__ is None or "psycopg" not in type(wrong.__context__).__module__
    shown(raw)


def test_words_of_others_lose_what_the_addresses_of_this_process_hold():
    Address("postgresql://operator7:hunter%40two@h/db?sslpassword=threethree&options=-cfive")

    words = 'FATAL: password authentication failed for user "operator7" (hunter@two, hunter%40two, threethree, -cfive)'

    assert hide(words) == 'FATAL: password authentication failed for user "operator7" (***, ***, ***, -cfive)'
    assert hide(words, names=True) == 'FATAL: password authentication failed for user "***" (***, ***, ***, ***)'


def test_everyday_words_are_not_hidden():
    Address("postgresql://embedq:embedq@localhost/embedq?sslmode=require")

    assert hide("embedq: sslmode require", names=True) == "embedq: sslmode require"


@pytest.mark.parametrize("quoted", [str, repr, json.dumps, ascii, lambda password: quote(password, safe="")])
def test_a_password_is_hidden_however_others_quote_it(quoted):
    password = "x\"y\\z\nß'%41"

    Address(f"postgresql://u:{quote(password, safe='')}@h/app")

    assert hide(f"failed: {quoted(password)}").replace('"', "").replace("'", "") == f"failed: {MASK}"


def test_a_password_with_unencoded_characters_is_hidden():
    for password in ("ab/cdefg", "ab?cdefg", "ab#cdefg", "ab@cdefg"):
        Address(f"redis://:{password}@h/0")

        assert hide(f"no user {password}") == f"no user {MASK}"


def test_pairs_reach_libpq_as_they_are_and_urls_without_what_sqlalchemy_adds():
    assert plain("host=h1 dbname=app") == "host=h1 dbname=app"
    assert plain("postgresql+psycopg://h/app") == "postgresql://h/app"
