"""Checks of the exercises, a module per chapter: each says what is right with an answer, or which mistake it shows."""
