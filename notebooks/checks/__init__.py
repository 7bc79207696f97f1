"""Checks of the exercises, a module per chapter: each looks at an answer and says what is right, or which mistake it shows."""
