"""All of PostgreSQL, behind one door: `Store(Database(url))`. The SQL is in `queries/`, the schema in `migrations/`."""

from __future__ import annotations

from .articles import Articles
from .backfills import Backfills
from .backups import Backups
from .care import Care
from .database import Database
from .history import History
from .models import Models
from .operate import Operate
from .overview import Overview
from .procedures import Procedures
from .rejected import Rejected
from .repairs import Repairs
from .search import Search
from .settings_versions import SettingsVersions
from .status import Audit, Status
from .switches import Switches
from .tasks import Depth, Settled, Tasks
from .throttles import Throttles
from .transfer import Transfer
from .usage import Ledger
from .vectors import Vectors
from .watch import Watch
from .workers import Workers

__all__ = ["Database", "Depth", "Settled", "Store"]


class Store:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.articles = Articles(database)
        self.search = Search(database)
        self.tasks = Tasks(database)
        self.watch = Watch(database)
        self.workers = Workers(database)
        self.models = Models(database)
        self.vectors = Vectors(database)
        self.ledger = Ledger(database)
        self.status = Status(database)
        self.audit = Audit(database)
        self.care = Care(database)
        self.operate = Operate(database)
        self.overview = Overview(database)
        self.throttles = Throttles(database)
        self.backfills = Backfills(database)
        self.backups = Backups(database)
        self.repairs = Repairs(database)
        self.settings_versions = SettingsVersions(database)
        self.history = History(database)
        self.transfer = Transfer(database)
        self.procedures = Procedures(database)
        self.rejected = Rejected(database)
        self.switches = Switches(database)

    def close(self) -> None:
        self.database.close()
