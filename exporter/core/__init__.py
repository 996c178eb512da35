"""The pure core: no database, files, clock, network or environment."""
