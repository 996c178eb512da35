"""What the program promises to readers of its output, and how each promise is checked."""
