"""The pictures of the pages in docs/images, taken in a real Chromium of a small made-up installation: `python -m tests.screenshots`."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from selenium import webdriver

from embedq import wiring
from embedq.local.servers import Servers
from embedq.model import Mode
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.acceptance.service import Served, hashing_at, serving
from tests.acceptance.test_cockpit import sign_in
from tests.browser import chromium_with
from tests.support import folder_for_servers, start_poller, until

HERE = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH, SCALE = 1080, 0.75
# Name: address, height.
PICTURES = {
    "cockpit": ("/", 560),
    "tasks": ("/tasks?status=failed", 540),
    "task": ("/tasks/7", 640),
    "errors": ("/errors?window=1h", 700),
    "queues": ("/queues?window=1h", 740),
    "procedures": ("/procedures?plan=emergency", 600),
}
LARGEST = 64_000
SCENE = """
INSERT INTO articles (id, title, content, tenant_id) SELECT 'tea-' || n, 'Tea, part ' || n, 'text ' || n, CASE WHEN n % 4 = 0 THEN 'acme' ELSE 'default' END
FROM generate_series(1, 240) n;
UPDATE embedding_tasks SET created_at = now() - interval '1 hour';
UPDATE embedding_tasks SET status = 'failed', error_class = CASE WHEN id % 3 = 0 THEN 'ProviderBusy' ELSE 'InputRefused' END, attempts = 2,
    error_message = CASE WHEN id % 3 = 0 THEN '503 from the provider' ELSE 'the text has ' || 9000 + id || ' tokens, 8191 are taken' END,
    errors = jsonb_build_array(jsonb_build_object('at', now() - interval '50 min', 'attempt', 1, 'class', 'ProviderBusy', 'message',
        'no answer in time', 'worker', 'w1', 'delivery', 'celery')), completed_at = now() - interval '20 min'
WHERE id % 7 = 0
"""
AFTERWARDS = """
UPDATE embedding_tasks SET completed_at = now() - id * interval '14 s' WHERE completed_at IS NOT NULL;
DELETE FROM performance_metrics;
INSERT INTO performance_metrics (timestamp, metric, labels, value)
SELECT now() - n * interval '10 s', 'depth', jsonb_build_object('status', 'pending', 'priority', p, 'dispatched', p <> 'low'),
       greatest(0, round(h * (1 + sin(n / 40.0 + h))))
FROM generate_series(0, 370) n, (VALUES ('urgent', 4), ('high', 20), ('normal', 60), ('low', 140)) AS of_each (p, h);
INSERT INTO performance_metrics (timestamp, metric, labels, value)
SELECT now() - n * interval '10 s', 'settled', jsonb_build_object('status', s, 'delivery', 'poller'), round(h * (1.2 + cos(n / 50.0)))
FROM generate_series(0, 370) n, (VALUES ('completed', 180), ('failed', 6)) AS of_each (s, h);
INSERT INTO articles (id, title, content) SELECT 'milk-' || n, 'Milk, part ' || n, 'text ' || n FROM generate_series(1, 37) n
"""


@contextmanager
def installation() -> Iterator[Served]:
    """A service with a worker, failed tasks, samples of an hour, and tasks that wait."""
    with folder_for_servers("embedq-pictures-") as home, Servers(home, overrides={"fsync": "off"}) as servers:
        environment = hashing_at(servers.database_url, servers.redis_url)
        store = Store(Database(servers.database_url))
        wiring.set_up(from_env(environment), store)
        store.status.set_mode(Mode.DATABASE, "Redis is being replaced", "ann")
        with closing(store), psycopg.connect(servers.database_url, autocommit=True) as psql, serving(environment) as served:
            psql.execute(SCENE)
            with start_poller(environment, queues=["high", "normal", "low"]):
                until(
                    lambda: psql.execute("SELECT FROM embedding_tasks WHERE status IN ('pending', 'processing')").rowcount == 0
                )
                store.status.pause({"priorities": (["normal"], []), "tenants": ([], [])}, "a pause for a picture", "ann")
                psql.execute(AFTERWARDS)
                yield served


def taken(driver: webdriver.Chrome, height: int) -> bytes:
    metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": SCALE, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
    return base64.b64decode(shot["data"])


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with (
        installation() as served,
        tempfile.TemporaryDirectory() as profile,
        chromium_with(profile, "--hide-scrollbars", "--disable-lcd-text") as driver,
    ):
        driver.get(served.url)
        until(lambda: driver.execute_script("return document.activeElement.id") == "token")
        sign_in(driver)
        for name, (address, height) in PICTURES.items():
            driver.get(served.url + address)
            picture = taken(driver, height)
            assert len(picture) <= LARGEST, f"{name} has {len(picture):,} bytes, more than {LARGEST:,}: lower its height"
            (HERE / f"{name}.png").write_bytes(picture)
            print(f"docs/images/{name}.png {len(picture):,} bytes")


if __name__ == "__main__":
    main()
