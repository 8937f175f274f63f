"""`memsync`, which is `python -m pipeline`, too."""

from pipeline.early_signals import end_at_once


def main() -> None:
    """The command line. Nothing large is imported before signals are seen to."""
    end_at_once()
    from pipeline import cli  # noqa: PLC0415 - see above

    cli.main()


if __name__ == "__main__":
    main()
