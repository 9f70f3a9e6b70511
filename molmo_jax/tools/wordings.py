"""Reads the lists of requests of a copy of allenai/molmo2 into a file for `data.wordings`.

The copy is parsed, never imported or run: lists of texts that stand in its source as literals, by
the names that this project has for the same kinds of request (docs/datasets.md).
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from pathlib import Path

from molmo_jax.data.wordings import WordingsError, fields_of, read_wordings
from molmo_jax.errors import MolmoError
from molmo_jax.files import write_atomically

# allenai/molmo2 f3cb108: where its lists are, and the one that has another name there
SOURCES = ('olmo/preprocessing/data_formatter.py', 'olmo/data/pixmo_datasets.py')
NAMES = {'NO_POINT_PREFIX': 'no_pointing'}


def lists_of(source: str) -> Iterator[tuple[str, list[str]]]:
  """(name, texts) of every list of texts that a Python source assigns, or that is a dict's value.
  """
  for node in ast.walk(ast.parse(source)):
    pairs: list[tuple[ast.expr | None, ast.expr]] = []
    if isinstance(node, ast.Assign):
      pairs = [(target.slice if isinstance(target, ast.Subscript) else target, node.value)
               for target in node.targets]
    elif isinstance(node, ast.Dict):
      pairs = list(zip(node.keys, node.values))
    for key, value in pairs:
      name = key.value if isinstance(key, ast.Constant) else getattr(key, 'id', None)
      texts = [item.value for item in getattr(value, 'elts', ()) if isinstance(item, ast.Constant)]
      if isinstance(name, str) and texts and all(isinstance(text, str) for text in texts):
        yield name, texts


def read_checkout(folder: Path) -> dict[str, list[str]]:
  """The lists of a checkout by our kinds; texts with other fields than ours are left out.

  Raises:
    WordingsError: a file is missing or cannot be parsed, or no list is found.
  """
  own, found = read_wordings(), {}
  for name in SOURCES:
    try:
      lists = dict(lists_of((folder / name).read_text(encoding='utf-8')))
    except (OSError, ValueError, SyntaxError) as error:
      raise WordingsError(f'{folder / name}: {error}; give a checkout of allenai/molmo2') from None
    for key, texts in lists.items():
      kind = NAMES.get(key, key)
      usable = [text for text in texts if fields_of(text) == fields_of(own[kind][0])
                ] if kind in own else []
      if usable:
        found[kind] = usable
  if not found:
    raise WordingsError(f'{folder}: none of its lists is of a known kind: {", ".join(own)}')
  return found


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m molmo_jax.tools.wordings',
    description='Writes the requests of a copy of allenai/molmo2 into JSON for data.wordings.',
    epilog='example: python -m molmo_jax.tools.wordings molmo2 released.json, then '
           'python train.py --config.data.wordings=released.json')
  parser.add_argument('checkout', type=Path, help='folder of the copy; it is not imported or run')
  parser.add_argument('file', type=Path, help='the file to write, .json')
  options = parser.parse_args(arguments)
  try:
    found = read_checkout(options.checkout)
  except MolmoError as error:
    raise SystemExit(f'error: {error}') from None
  write_atomically(options.file, json.dumps(found, indent=2, ensure_ascii=False) + '\n')
  for kind, texts in found.items():
    print(f'{kind}: {len(texts)}')
  print('not found, and left to the own lists: '
        + (', '.join(kind for kind in read_wordings() if kind not in found) or 'none'))
  return 0


if __name__ == '__main__':
  raise SystemExit(main())
