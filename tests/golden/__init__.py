"""Golden data and their runners: `python -m tests.golden`."""
