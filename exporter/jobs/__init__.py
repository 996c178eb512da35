"""Work that may take hours and may be stopped at any moment."""
