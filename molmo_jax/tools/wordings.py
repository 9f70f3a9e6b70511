"""Reads the lists of wordings out of a copy of allenai/molmo2 that is on this machine.

The file is for --config.data.wordings. The code of the copy is parsed, never run.

Examples:
  git clone https://github.com/allenai/molmo2
  molmo-jax wordings molmo2 wordings.json
  python train.py --config=configs/finetune.py --config.data.wordings=wordings.json
"""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from molmo_jax.command_line import make_parser, one_line_errors
from molmo_jax.data.wordings import WordingsError, fields_of, read_wordings
from molmo_jax.files import write_atomically
from molmo_jax.visible import say

SOURCES, FIELDS = tomllib.loads(
  Path(__file__).with_name('wordings.toml').read_text(encoding='utf-8')).values()


@one_line_errors
def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = make_parser('wordings', __doc__)
  parser.add_argument('checkout', type=Path, help='folder of the copy of allenai/molmo2')
  parser.add_argument('out', type=Path, help='the file to write, ….json')
  options = parser.parse_args(arguments)
  found = read_checkout(options.checkout)
  write_atomically(options.out, json.dumps(found, indent=1, ensure_ascii=False) + '\n')
  own = read_wordings()
  say(f'{options.out}: {sum(map(len, found.values()))} wordings of {len(found)} kinds',
        file=sys.stderr)
  if missing := [kind for kind in own if kind not in found]:
    say(f"  the project's own stay for: {', '.join(missing)}", file=sys.stderr)
  return 0


def read_checkout(folder: Path) -> dict[str, list[str]]:
  """The lists by the kinds of `data.wordings`; wordings with other fields are left out.

  Raises:
    WordingsError: a file is not there or cannot be parsed.
  """
  own, found = read_wordings(), {}
  for name, kinds in SOURCES.items():
    try:
      tree = ast.parse((folder / name).read_text(encoding='utf-8'))
    except (OSError, SyntaxError) as error:
      raise WordingsError(f'{folder / name}: cannot be read ({error}); give the folder of a copy '
                          'of github.com/allenai/molmo2') from None
    for where, texts in _lists(tree, ''):
      kind = kinds.get(where, where.rpartition('.')[2] if not kinds else '')
      fitting = [t for t in texts if kind in own and fields_of(t) == fields_of(own[kind][0])]
      if fitting:
        found[kind] = fitting
  if not found:
    raise WordingsError(f'{folder}: none of its lists is of a known kind: {", ".join(own)}')
  return found


def _lists(node: ast.AST, path: str) -> Iterator[tuple[str, list[str]]]:
  """Every list of texts with its path: names of classes, functions and keys with dots between.

  Where a function has several lists that are not assigned to a key, they are numbered from 0.
  """
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.FunctionDef) and not path:
      texts = [t for t in map(_texts, ast.walk(child)) if t]
      yield child.name, texts[0] if texts else []
      yield from ((f'{child.name}.{i}', t) for i, t in enumerate(texts))
    elif isinstance(child, ast.ClassDef):
      yield from _lists(child, f'{path}{child.name}.')
    elif isinstance(child, ast.Assign):
      if isinstance(child.value, ast.Dict):
        named = zip(child.value.keys, child.value.values)
        yield from ((path + str(getattr(key, 'value', '')), _texts(v)) for key, v in named)
      else:
        yield path + _name(child.targets[0]), _texts(child.value)
    elif isinstance(child, ast.FunctionDef):
      yield from _lists(child, path)


def _name(target: ast.expr) -> str:
  key = target.slice if isinstance(target, ast.Subscript) else target
  return str(getattr(key, 'value', getattr(key, 'id', '')))


def _texts(node: ast.AST) -> list[str]:
  """The texts of a list; fields of an f-string by the names that they have here."""
  if not isinstance(node, ast.List):
    return []
  return [text for text in map(_text, node.elts) if text]


def _text(node: ast.expr) -> str:
  if isinstance(node, ast.Constant):
    return node.value if isinstance(node.value, str) else ''
  if not isinstance(node, ast.JoinedStr):
    return ''
  names = [getattr(getattr(part, 'value', None), 'id', '') for part in node.values]
  return ''.join(str(part.value) if isinstance(part, ast.Constant) else
                 f'{{{FIELDS.get(name, name)}}}' for part, name in zip(node.values, names))


if __name__ == '__main__':
  sys.exit(main())
