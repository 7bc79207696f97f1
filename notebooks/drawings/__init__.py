"""Plotting code of the chapters, a module per subject: nothing to learn here, feel free to skip it."""
