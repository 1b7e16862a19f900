"""Pages of the documentation site, as docs/hooks.py collects them, and what they contain."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOOKS = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
PAGES = HOOKS["sources"]()
METHOD_PAGES = {path.stem: path for path in sorted((ROOT / "docs/methods").rglob("*.md")) if path.stem != "README"}
