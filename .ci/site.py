"""Hooks of mkdocs: pages from the repository's root, and links to files outside of docs/.

README.md is the start page. A link such as `[configs/finetune.py](../configs/finetune.py)` works in
the repository; on the site that file is published below `files/`.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md',
         'CHANGELOG.md': 'changelog.md'}
LINK = re.compile(r'(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)')


def on_files(files, config):
  """Adds the pages of the root and the files that any page links to."""
  for source, name in PAGES.items():
    if (ROOT / source).is_file() and files.get_file_from_path(name) is None:
      files.append(File.generated(config, name, content=(ROOT / source).read_text('utf-8')))
  for page in list(files.documentation_pages()):
    for target in LINK.findall(page.content_string):
      path = _from_root(page.src_uri, target)
      if path and path.is_file() and files.get_file_from_path(_published(path)) is None:
        files.append(File.generated(config, _published(path), abs_src_path=str(path)))
  return files


def on_page_markdown(markdown, page, config, files):
  """Points links at where the site has their targets; what does not exist stays, for --strict."""
  def moved(match):
    path = _from_root(page.file.src_uri, match[0])
    return _published(path) if path and files.get_file_from_path(_published(path)) else match[0]
  return LINK.sub(moved, markdown)


def _from_root(page: str, target: str) -> Path | None:
  """The file that a link of a page means; None: a link within docs/, which mkdocs resolves."""
  if page not in PAGES.values() and not target.startswith('../'):
    return None
  return (ROOT / ('' if page in PAGES.values() else 'docs') / target).resolve()


def _published(path: Path) -> str:
  """Where the site has a file of the repository."""
  name = str(path.relative_to(ROOT))
  return name.removeprefix('docs/') if name.startswith('docs/') else PAGES.get(
    name, f'files/{name}.txt')
