"""Going back (SPEC §6): procedures made of named steps, each timed, on record, and resumable when the command dies."""
