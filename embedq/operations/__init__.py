"""What an operator does, written once: modes, rollback, backup, backfill, status, metrics. The doors (cli, http) call it; it uses steward and below."""
