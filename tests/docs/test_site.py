"""The documentation site: it builds without a warning, its links lead somewhere, and diagrams show the methods."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import pytest
import yaml
from helpers.rows import make, options
from helpers.site_pages import HOOKS, METHOD_PAGES, PAGES, ROOT

from raydistill.models.queue import Queue
from raydistill.options import METHODS

CONFIG = ROOT / "docs" / "mkdocs.yml"
ANY_NODE = r"(\w+)(?:\[\(?\"[^\"]+\"\)?\])?"
ARROW = rf"{ANY_NODE}|&|-->|-\.->|\|[^|]+\||\s+"


class Links(HTMLParser):
    """What a page links to or loads, and the anchors that it has."""

    def __init__(self):
        super().__init__()
        self.targets, self.anchors, self.loaded = [], set(), []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.targets.append(found["href"])
        for name in {"src"} | ({"href"} if tag == "link" else set()):
            if name in found:
                self.loaded.append(found[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", CONFIG, "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement of another program
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def read(site):
    """What each page links to, by its path in the site."""
    found = {}
    for path in site.rglob("*.html"):
        if path.name != "404.html":  # has absolute links, since it is shown at any address
            found[path] = Links()
            found[path].feed(path.read_text())
    return found


@pytest.mark.slow
class TestSite:
    def test_every_page_and_notebook_is_there(self, site, read):
        notebooks = list(ROOT.glob(HOOKS["NOTEBOOKS"]))
        assert len(read) == len(PAGES) + len(notebooks)
        assert all((site / "analysis" / f"{path.stem}.html").exists() for path in notebooks)
        assert all((site / name).exists() for name in ("index.html", "methods/seed.html", "contributing.html"))

    def test_links_and_anchors_lead_somewhere(self, read):
        broken = []
        for page, links in read.items():
            for target in [*links.targets, *links.loaded]:
                address, fragment = urldefrag(target)
                if re.match(r"[a-z]+:", address):
                    continue
                place = (page.parent / unquote(address)).resolve() if address else page
                anchors = read[place].anchors if place in read else set()
                if not place.is_file() or (fragment and unquote(fragment) not in anchors):
                    broken.append(f"{page.name}: {target}")
        assert broken == []

    def test_nothing_is_loaded_from_elsewhere(self, read):
        assert [each for links in read.values() for each in links.loaded if re.match(r"(https?:)?//", each)] == []

    def test_lists_tables_and_diagrams_are_drawn(self, site):
        table = (site / "analysis/experiments/simreg/head-depth/table.html").read_text()
        assert "<li>4-layers beats 2-layers" in table
        assert '<pre class="mermaid">' in (site / "methods/seed.html").read_text()
        for page in (site / "methods").rglob("*.html"):
            assert not re.search(r"<p>\s*\|", page.read_text()), page

    def test_notebooks_show_their_pictures_and_tables(self, site):
        page = (site / "analysis/overview.html").read_text()
        assert (site / "analysis/overview-1.png").read_bytes().startswith(b"\x89PNG")
        assert 'src="overview-1.png"' in page
        assert '<table border="1" class="dataframe">' in page

    def test_public_names_have_their_signatures(self, read):
        import raydistill

        (anchors,) = (links.anchors for page, links in read.items() if page.name == "api.html")
        assert {f"raydistill.{name}" for name in raydistill.__all__ if name != "__version__"} <= anchors


def test_the_navigation_has_every_page_but_tables_of_experiments():
    shown = set(re.findall(r"[\w/.-]+\.md", str(yaml.safe_load(CONFIG.read_text())["nav"])))
    pages = {path.relative_to(ROOT).as_posix() for path in PAGES}
    pages |= {f"analysis/{path.stem}.md" for path in ROOT.glob(HOOKS["NOTEBOOKS"])}
    assert {page for page in pages if not page.startswith("analysis/experiments/")} == shown


def test_anchors_are_those_of_code_hosts():
    assert HOOKS["anchor"]("Is `--set a.b=1` fixed? Ours, too", "-") == "is---set-ab1-fixed-ours-too"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Two:\n- a\n- b\n\nend", "Two:\n\n- a\n- b\n\nend"),
        ("Two:\n\n1. a\n   more\n2. b", "Two:\n\n1. a\n   more\n2. b"),
        ("- a\n- b", "- a\n- b"),
        ("a\n-1 is a number", "a\n-1 is a number"),
    ],
)
def test_a_list_has_an_empty_line_before_it(text, written):
    assert HOOKS["with_lists"](text) == written


@pytest.mark.parametrize(
    ("source", "link", "target"),
    [
        ("README.md", "[m](docs/methods/)", "[m](docs/methods/README.md)"),
        ("docs/api.md", "[m](methods/#baselines)", "[m](methods/README.md#baselines)"),
        (
            "docs/head-to-head.md",
            "[t](../analysis/experiments/ours/head-to-head)",
            "[t](../analysis/experiments/ours/head-to-head/table.md)",
        ),
        ("analysis/README.md", "[n](dogo.ipynb)", "[n](dogo.md)"),
        ("docs/api.md", "[e](export.md) [w](https://x.org/a.ipynb)", "[e](export.md) [w](https://x.org/a.ipynb)"),
    ],
)
def test_links_to_folders_and_notebooks_lead_to_pages(source, link, target):
    assert HOOKS["with_links"](link, source) == target


def diagram(name):
    (found,) = re.findall(r"```mermaid\n(.*?)```", METHOD_PAGES[name].read_text(), re.DOTALL)
    return found


@pytest.mark.parametrize("name", METHODS)
class TestDiagram:
    def test_every_line_is_an_arrow_between_named_nodes(self, name):
        first, *lines = diagram(name).splitlines()
        assert first == "flowchart TD"
        assert [line for line in lines if not re.fullmatch(f"(?:{ARROW})+", line)] == []
        text = "\n".join(re.sub(r"\|[^|]+\|", "", line) for line in lines)
        named = set(re.findall(r"(\w+)\[", text))
        used = set(re.findall(r"\w+", re.sub(r"\[.*?\"\)?\]", "", text)))
        assert used == named

    def test_it_has_the_parts_that_the_method_has(self, name):
        """Queues, networks without gradients, teachers and labels, by the method's own options and modules."""
        shown, method, chosen = diagram(name), make(name), options(name)
        assert ('[("' in shown) == any(isinstance(part, Queue) for part in method.modules())
        follows = any(not weight.requires_grad for weight in method.parameters() if weight.numel() > 1)
        assert bool(re.search(r"EMA teacher|momentum", shown)) == (follows and chosen.ema() is not None)
        assert ("frozen teacher" in shown) == (chosen.teacher_output() is not None)
        assert bool(re.search(r"cluster ids?|labels", shown)) == (chosen.label_source() is not None)
