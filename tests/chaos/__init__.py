"""Chaos: everything embedq is made of runs for real, everything goes wrong at random, and at the end nothing may be lost.

`plan` says what goes wrong when (pure, from a seed); `world` has the servers, the workers and the stand-in provider;
`writers` create, edit and delete articles and keep their own book; `faults` breaks things and mends them; `judge` compares
the database with the book. `run` is the story, `python -m tests.chaos` (scripts/chaos) tells it for as long as you like.
"""
