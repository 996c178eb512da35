"""The exports: one surface each, request in, finished v1 text out; they only ever read."""
