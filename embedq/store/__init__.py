"""All access to PostgreSQL: `Store(Database(url))`. The SQL is in `queries/`, the schema in `migrations/`.

May be imported by engine and above; uses settings and decide.
"""

from __future__ import annotations

from .articles import Articles
from .backfills import Backfills
from .backups import Backups
from .bulk import Operate
from .canaries import Canaries
from .console import Console
from .control import Audit, Status
from .database import Database
from .fence import Fence
from .history import History
from .models import Models
from .overview import Overview
from .procedures import Procedures
from .progress import Moves
from .providers import Providers
from .reconcile import Care
from .rejected import Rejected
from .repairs import Repairs
from .search import Search
from .settings_versions import SettingsVersions
from .settling import Settled
from .sources import Sources
from .switches import Switches
from .tasks import Depth, Tasks
from .throttles import Throttles
from .tokens import Tokens
from .transfer import Transfer
from .trials import Trials
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
        self.providers = Providers(database)
        self.canaries = Canaries(database)
        self.vectors = Vectors(database)
        self.ledger = Ledger(database)
        self.fence = Fence(database)
        self.status = Status(self.fence)
        self.audit = Audit(database)
        self.care = Care(database)
        self.operate = Operate(database)
        self.overview = Overview(database)
        self.console = Console(database)
        self.moves = Moves(database, self.fence, self.overview)
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
        self.tokens = Tokens(database)
        self.trials = Trials(database)
        self.sources = Sources(database)

    def close(self) -> None:
        self.database.close()
