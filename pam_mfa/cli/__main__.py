"""`python -m pam_mfa.cli`."""

from __future__ import annotations

from .main import main

raise SystemExit(main())
