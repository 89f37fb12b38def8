"""What mkdocs calls while it builds the site (``mkdocs.yml``, ``hooks``)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from jinja2 import Environment, StrictUndefined  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from docs.website import commands, methods, notebook, values  # noqa: E402
from docs.website.foreign import foreign  # noqa: E402

# Comments of Jinja begin as Markdown's anchors do.
PAGES = Environment(undefined=StrictUndefined, comment_start_string="{%#", comment_end_string="#%}", autoescape=False)
NOTEBOOK = ROOT / "docs" / "tour.ipynb"


def on_config(config: Any) -> Any:
    """Put the methods' pages into the navigation, by quadrant."""
    found = methods.methods()
    (section,) = (s["Methods"] for s in config.nav if "Methods" in s)
    for quadrant, title in methods.QUADRANTS.items():
        section.append({title: [{m.name: m.page} for m in found if m.traits.quadrant == quadrant]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from code, the notebook, and the published files that pages show or link."""
    found = methods.methods()
    known = {m.name for m in found}
    made: dict[str, str | bytes] = {m.page: methods.page(m, known) for m in found}
    made |= {"methods/index.md": methods.index(found), "reference/cli.md": commands.page()}
    made["changelog.md"] = (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")
    tour, pictures = notebook.page(NOTEBOOK)
    made |= {"tour.md": tour, **pictures}
    for address, content in made.items():
        files.append(File.generated(config, address, content=content))
    for file in _published():
        files.append(File.generated(config, values.published(file), abs_src_path=str(file)))
    return files


def _published() -> list[Path]:
    """Files of ``results/`` that a reader may open from the site."""
    patterns = ("*.csv", "*.html", "*.tex", "*.json", "figures/*.png", "ablations/*.png", "ablations/*.csv")
    return [file for pattern in patterns for file in sorted(values.RESULTS.glob(pattern))]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the numbers, and say which page lacks one; figures beside generated tables are the site's own."""
    text = markdown.replace("](../results/figures/", "]({up}published/figures/")
    try:
        text = PAGES.from_string(text).render(values.NAMES) if "{{" in text or "{%" in text else text
    except Exception as error:
        raise SystemExit(f"docs/{page.file.src_uri}: {type(error).__name__}: {error}") from error
    return text.replace("{up}", "../" * page.file.src_uri.count("/"))


def on_post_build(config: Any) -> None:
    """Write llms.txt, one line per page, and refuse a site whose pages load anything from elsewhere."""
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(_index(config)) + "\n")
    loaded = {f"{file.relative_to(site)}: {one}" for file in site.rglob("*.html") for one in foreign(file.read_text())}
    if loaded:
        raise SystemExit("pages load what is not on the site:\n" + "\n".join(sorted(loaded)))


_pages: list[tuple[str, str, str]] = []


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Remember title, address and first sentence of every page, for llms.txt."""
    text = re.sub(r"<[^>]+>", "", (re.search(r"<p>(.*?)</p>", html, re.S) or [""])[0]).strip()
    _pages.append((page.title or page.file.src_uri, page.url, " ".join(text.split())[:160]))
    return html


def _index(config: Any) -> list[str]:
    head = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Pages", ""]
    return head + [f"- [{title}]({address}): {text}" for title, address, text in _pages]
