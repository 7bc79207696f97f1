"""The course in a browser: `python3 run.py live`."""
