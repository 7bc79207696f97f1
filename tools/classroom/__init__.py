"""Hands exercises out and grades what comes back; see __main__ for the commands."""
