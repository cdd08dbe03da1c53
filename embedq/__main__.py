"""`embedq …` and `python -m embedq …`."""

from __future__ import annotations


def main() -> None:
    from .cli import embedq

    embedq(prog_name="embedq")


if __name__ == "__main__":
    main()
