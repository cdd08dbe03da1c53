"""Tables of a Django project and of SQLAlchemy on asyncpg, neither of which knows embedq: rows that they write are found by `embedq search`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .operating import answered, embed_due

SETTINGS = """
SECRET_KEY = "not secret"
INSTALLED_APPS = ["blog"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "{name}", "USER": "{user}", "PASSWORD": "{password}",
                         "HOST": "{host}", "PORT": "{port}"}}}}
"""
MODELS = """
from django.db import models

class Post(models.Model):
    title = models.CharField(max_length=200)
    body = models.TextField()
    published = models.BooleanField(default=True)
"""
BEFORE = "from blog.models import Post; Post.objects.create(title='Green tea', body='Steep the leaves for two minutes')"
AFTERWARDS = """
from blog.models import Post
Post.objects.bulk_create([Post(title=f"Note {n}", body="Nothing of interest") for n in range(150)])
Post.objects.create(title="Cast iron tea pot", body="Holds a litre", published=False)
Post.objects.filter(title__startswith="Cast").update(published=True)
Post.objects.get(title="Green tea").delete()
"""


@pytest.fixture
def project(tmp_path: Path, database_url: str):
    """A Django project with one app; runs one of its commands."""
    address = urlsplit(database_url)
    (tmp_path / "blog").mkdir()
    (tmp_path / "blog" / "__init__.py").touch()
    (tmp_path / "blog" / "models.py").write_text(MODELS)
    (tmp_path / "site_settings.py").write_text(
        SETTINGS.format(
            name=address.path[1:], user=address.username, password=address.password, host=address.hostname, port=address.port
        )
    )

    def run(*words: str) -> None:
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(tmp_path)}
        argv = [sys.executable, "-m", "django", *words]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.timeout(400)
def test_a_django_project(project, environment, settings, psql, tmp_path):
    pytest.importorskip("django", reason="pip install 'django>=5'")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    project("makemigrations", "blog")
    project("migrate")
    project("shell", "-c", BEFORE)
    answered(environment, "attach", "blog_post", "--title", "title", "--content", "body", "--where", "published", "--yes")
    embed_due(settings)
    search = ("search", "green tea, cast iron tea pot", "--source", "blog_post", "-k", "1")
    assert [hit["title"] for hit in answered(environment, *search)] == ["Green tea"]

    project("shell", "-c", AFTERWARDS)
    models = tmp_path / "blog" / "models.py"
    models.write_text(MODELS.replace("    body = models.TextField()\n", "    text = models.TextField(default='')\n"))
    embed_due(settings)

    assert [hit["title"] for hit in answered(environment, *search)] == ["Cast iron tea pot"]
    project("makemigrations", "blog", "--noinput")
    project("migrate")  # drops the column that is embedded
    project("shell", "-c", "from blog.models import Post; Post.objects.create(title='Black tea')")
    assert answered(environment, "source", "status", "blog_post", code=3)[0]["state"] == "behind"


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    shelf: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_sqlalchemy_on_asyncpg(database_url, environment, settings, psql):
    pytest.importorskip("asyncpg", reason="pip install asyncpg")
    pytest.importorskip("greenlet", reason="pip install 'sqlalchemy[asyncio]'")
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://"))

    async def make() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    async def write() -> None:
        async with AsyncSession(engine) as session:
            session.add_all([Product(shelf=1, part=f"p{n}", name=f"Bolt {n}") for n in range(150)])
            session.add(Product(shelf=2, part="a", name="Lamp"))
            await session.flush()
            await session.execute(update(Product).where(Product.shelf == 2).values(name="Tea pot"))
            await session.execute(delete(Product).where(Product.part == "p7"))
            await session.commit()
        await engine.dispose()

    psql("UPDATE embedding_worker_status SET mode = 'database'")
    asyncio.run(make())
    answered(environment, "attach", "products", "--title", "name", "--yes")

    asyncio.run(write())
    embed_due(settings)

    found = answered(environment, "search", "tea pot", "--source", "products", "-k", "1")
    assert [hit["key"] for hit in found] == [{"shelf": 2, "part": "a"}]
    assert psql("SELECT status, count(*) FROM embedq_products GROUP BY 1") == [("ready", 150)]
