"""Rollback procedures: named steps, each timed and recorded in the audit log; a procedure can be resumed after its command died.

Part of operations, with the same importers."""
