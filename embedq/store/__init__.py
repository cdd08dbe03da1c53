"""All of PostgreSQL, behind one door: `Store(Database(url))`. The SQL is in `queries/`, the schema in `migrations/`."""

from __future__ import annotations

from .articles import Articles
from .care import Care
from .database import Database
from .models import Models
from .operate import Operate
from .overview import Overview
from .procedures import Procedures
from .rejected import Rejected
from .status import Audit, Status
from .switches import Switches
from .tasks import Settled, Tasks
from .transfer import Transfer
from .workers import Workers

__all__ = ["Database", "Settled", "Store"]


class Store:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.articles = Articles(database)
        self.tasks = Tasks(database)
        self.workers = Workers(database)
        self.models = Models(database)
        self.status = Status(database)
        self.audit = Audit(database)
        self.care = Care(database)
        self.operate = Operate(database)
        self.overview = Overview(database)
        self.transfer = Transfer(database)
        self.procedures = Procedures(database)
        self.rejected = Rejected(database)
        self.switches = Switches(database)

    def close(self) -> None:
        self.database.close()
