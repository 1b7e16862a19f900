"""Makes a site of the repository's pages, which stay where they are: what mkdocs.yml calls while it builds.

Pages and pictures come from several folders under their own names, so that their relative links hold. A notebook
becomes a page. Links to folders lead to the page that describes the folder, and anchors are those of code hosts.
"""

from __future__ import annotations

import ast
import base64
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.superfences import fence_code_format

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("docs/**/*.md", "clusters/README.md"),
    *("analysis/*.md", "analysis/benchmarks/*.md", "analysis/experiments/**/*.md"),
)
NOTEBOOKS = "analysis/*.ipynb"
PICTURES = "analysis/images/*.png"
PLUS_MINUS = "\u00a0±\u00a0"  # never at the end of a line
SIGNATURES = "<!-- signatures -->"
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"^(!\[[^]]*\]\(([^)]+)\))$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
ITEM = r"(?:[-*]|\d+\.) "


def sources() -> list[Path]:
    """The files that are pages, without the notebooks."""
    return [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set what YAML cannot name: functions."""
    fence = {"name": "mermaid", "class": "mermaid", "format": fence_code_format}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    return config


def anchor(heading: str, separator: str) -> str:
    """The anchor that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages, pictures and notebooks by their paths in the repository."""
    for path in [*sources(), *sorted(ROOT.glob(PICTURES))]:
        file = File.generated(config, name_of(path), abs_src_path=str(path))
        # The site has no folder docs/, and `contributing.html` beside `index.html`.
        address = file.dest_uri.removeprefix("docs/")
        file.dest_uri = address if "/" in address else address.lower()
        files.append(file)
    for path in sorted(ROOT.glob(NOTEBOOKS)):
        text, pictures = converted(path)
        files.append(File.generated(config, name_of(path.with_suffix(".md")), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"analysis/{name}", content=content))
    return files


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the page as mkdocs understands it; see the functions called."""
    source = page.file.src_uri
    if source.startswith("analysis/experiments/") and not markdown.startswith("# "):
        markdown = f"# {'/'.join(source.split('/')[2:4])}\n\n{markdown}"
    pieces = FENCE.split(markdown)
    pieces[::2] = [with_lists(with_links(text, source)).replace(" ± ", PLUS_MINUS) for text in pieces[::2]]
    return PICTURE.sub(r"[\1](\2)", "".join(pieces)).replace(SIGNATURES, signatures())  # opens in full size


def with_links(text: str, source: str) -> str:
    """Text whose links to folders and notebooks lead to pages."""

    def page_of(found: re.Match[str]) -> str:
        target, fragment = found[1], found[2] or ""
        place = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        for page in ("README.md", "table.md"):
            if (place / page).is_file():
                target = posixpath.join(target, page)
        return f"]({re.sub('[.]ipynb$', '.md', target)}{fragment})"

    return LINK.sub(page_of, text)


def with_lists(text: str) -> str:
    """Text with an empty line before each list, which code hosts do not need."""
    return re.sub(rf"^(?!\s|{ITEM})(.+)\n(?={ITEM})", r"\1\n\n", text, flags=re.MULTILINE)


def signatures() -> str:
    """The directives that draw each public name with its description, functions first."""
    tree = ast.parse((ROOT / "raydistill" / "__init__.py").read_text())
    homes = {
        alias.name: node.module
        for guarded in tree.body
        if isinstance(guarded, ast.If)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    ordered = sorted(homes, key=lambda name: (name[0].isupper(), name))
    # Members only of the classes that are there to be derived from.
    without = "\n    options:\n      members: false"
    derived = ("Method", "MethodConfig")
    return "\n\n".join(f"::: raydistill.{name}{'' if name in derived else without}" for name in ordered)


def converted(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by their names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data: dict[str, Any] = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{notebook.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![{''.join(data['text/plain'])}]({name})")
            elif "text/html" in data:
                table = re.sub(r"<style.*?</style>|\n\s*\n", "", "".join(data["text/html"]), flags=re.DOTALL)
                parts.append(table.replace("<div>", '<div class="dataframe-scroll">', 1))
            else:
                parts.append(f"```text\n{''.join(data['text/plain'])}\n```")
    return "\n\n".join(parts) + "\n", pictures
