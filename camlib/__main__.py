"""Makes `python -m camlib` the same as the command `camlib`."""

from camlib.cli import main

raise SystemExit(main())
