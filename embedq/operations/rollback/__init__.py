"""Going back: procedures made of named steps, each timed, on record, and resumable when the command dies.

A part of operations: the same rooms may import it."""
