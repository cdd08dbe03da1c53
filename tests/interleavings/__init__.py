"""The explorer: pairs and triples of the product's own operations, stepped through every interleaving of their statements on a real PostgreSQL.

docs/why/explorer.rst says how and why; `scripts/explore` runs it.
"""
