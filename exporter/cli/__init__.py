"""The command line: parse, call one function, render. No SQL and no rules live here."""
