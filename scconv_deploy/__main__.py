"""``python -m scconv_deploy export|verify|bench|serve|inspect|doctor ...``."""

from __future__ import annotations

import sys

from scconv_deploy.cli import run

if __name__ == "__main__":
    sys.exit(run(None, sys.argv[1:]))
