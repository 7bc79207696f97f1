"""`python -m camlib` is the command `camlib`."""

from camlib.cli import main

raise SystemExit(main())
