"""No function takes more arguments than a reader can keep in mind."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [ROOT / 'train.py', ROOT / 'eval.py', *sorted((ROOT / 'molmo_jax').rglob('*.py'))]
MOST = 8


def too_long(tree: ast.AST) -> list[tuple[int, str, int]]:
  """Line, name and number of arguments of functions with more than `MOST`; self is not counted."""
  found = []
  for node in ast.walk(tree):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
      arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
      names = [a.arg for a in arguments if a.arg not in ('self', 'cls')]
      name = getattr(node, 'name', 'lambda')
      if len(names) > MOST:
        found.append((node.lineno, name, len(names)))
  return found


def test_no_function_has_more_than_eight_arguments():
  found = [f'{path.relative_to(ROOT)}:{line}: {name} has {count}'
           for path in FILES for line, name, count in too_long(ast.parse(path.read_text()))]
  assert not found, '\n'.join(found)


def test_keyword_arguments_count_and_self_does_not():
  method = 'class A:\n  def f(self, a, b, c, d, e, f, g, *, h): ...'
  assert not too_long(ast.parse(method))
  assert too_long(ast.parse(method.replace('h)', 'h, i)'))) == [(2, 'f', 9)]
