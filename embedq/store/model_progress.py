"""How far a model is, and whether search can follow it."""

from __future__ import annotations

from dataclasses import dataclass

# Under edits the model in the making is always a little behind, because its tasks are `low`: it may be for this share of the articles.
BEHIND_SHARE = 0.01
BEHIND_AT_LEAST = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a model is. `complete`: articles whose newest text it has. `missing`: those that the active model finds and it
    does not. `behind`: those of which it knows an older text than the active model. `rate_per_s`: tasks per second, last minute."""

    articles: int
    complete: int
    missing: int
    behind: int
    open: int
    failed: int
    skipped: int
    rate_per_s: float
    bytes: int

    @property
    def eta_s(self) -> float | None:
        return self.open / self.rate_per_s if self.rate_per_s else None

    def lacks(self) -> str | None:
        """Why search would lose something if it followed this model; None when it would not."""
        if self.missing:
            return f"{self.missing:,} articles that search finds now have no vector of it ({self.open:,} tasks are open, {self.failed:,} failed)"
        if self.behind > max(BEHIND_AT_LEAST, BEHIND_SHARE * self.articles):
            return f"of {self.behind:,} articles it knows only an older text than the active model"
        return None
