"""``python -m exporter``: the same program as the ``exporter`` script."""

from exporter.cli.main import main

if __name__ == "__main__":
    main()
