"""Operator actions: modes, rollback, backup, backfill, status, metrics. May be imported by wiring and above (cli, http and mcp call it);
uses steward and below."""
