"""Prints docs/configuration.md: every key of a configuration with its type, default and meaning.

A key's meaning is what its dataclass says of it: the comment above the field or behind it, or its
line under `Attributes:` in the docstring.

Examples:
  molmo-jax configuration | less
  molmo-jax configuration --write docs/configuration.md
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molmo_jax.command_line import make_parser
from molmo_jax.configuration import describe, section_of
from molmo_jax.experiment import Experiment

HEAD = """# Configuration

Every key, with its type, its default and its meaning; generated from the dataclasses by
`molmo-jax configuration --write docs/configuration.md`. A file of `configs/` sets
some of them for a kind of run, and each is a flag on the command line:

```sh
python train.py --config.training.steps=200 --config.model.connector.pooling=mean
```

A tuple is written `'(2,2)'`. Where the default is –, the configuration file must give a value. A
key that does not exist is an error that names the closest one.
"""


def sections(cls: type, path: str = '') -> Iterator[tuple[str, type]]:
  """(path, dataclass) of a configuration and of all sections below it, in the order of the fields.
  """
  yield path, cls
  for field in dataclasses.fields(cls):
    hint = hints(cls)[field.name]
    below = section_of(hint)
    if below is not None:
      name = f'{field.name}.NAME' if typing.get_origin(hint) is dict else field.name
      yield from sections(below, f'{path}.{name}'.strip('.'))


@functools.cache
def hints(cls: type) -> dict[str, Any]:
  """The types of a dataclass's fields."""
  return typing.get_type_hints(cls, include_extras=True)


def meanings(cls: type) -> dict[str, str]:
  """What a dataclass, or one that it inherits from, says of each of its fields; '' if nothing."""
  said: dict[str, str] = {}
  for part in reversed([c for c in cls.__mro__ if dataclasses.is_dataclass(c)]):
    said |= attributes(inspect.getdoc(part) or '')
    source = textwrap.dedent(inspect.getsource(part))
    lines = source.splitlines()
    for node in ast.iter_child_nodes(ast.parse(source).body[0]):
      if isinstance(node, ast.AnnAssign):
        above = itertools.takewhile(lambda line: line.lstrip().startswith('#'),
                                    reversed(lines[:node.lineno - 1]))
        behind = lines[(node.end_lineno or 0) - 1].encode()[node.end_col_offset:].decode()
        comment = ' '.join(line.strip(' #') for line in (*reversed([*above]), behind)).strip()
        name = ast.unparse(node.target)
        said[name] = comment or said.get(name, '')
  return said


def attributes(docstring: str) -> dict[str, str]:
  """The entries of a docstring's section `Attributes:`, `a, b: text` for both names."""
  _, _, listed = docstring.partition('Attributes:\n')
  said = {}
  for entry in re.split(r'\n(?=  \w)', '\n' + listed.partition('\n\n')[0]):
    names, _, text = entry.strip().partition(': ')
    said |= {name.split(' ')[0]: ' '.join(text.split()) for name in names.split(', ') if text}
  return said


def default(field: dataclasses.Field) -> str:
  """The default as it is written on the command line; – where there is none."""
  if field.default_factory is not dataclasses.MISSING:
    return f'`{field.default_factory()}`'
  if field.default is dataclasses.MISSING:
    return '–'
  return ('none' if field.default is None else "`''`" if field.default == ''
          else f'`{field.default}`')


def table(path: str, cls: type) -> str:
  """One section of the page: what the dataclass is, and a table of its keys."""
  said = meanings(cls)
  rows = [(f'`{field.name}`', describe(hints(cls)[field.name]), default(field), said[field.name])
          for field in dataclasses.fields(cls) if section_of(hints(cls)[field.name]) is None]
  about = ' '.join((inspect.getdoc(cls) or '').split('\n\n')[0].split())
  lines = [f'## {path or "The run"}', '', about, '']
  if rows:
    lines += ['| key | type | default | meaning |', '| --- | --- | --- | --- |']
    lines += [f'| {" | ".join(map(cell, row))} |' for row in rows]
  return '\n'.join(lines).rstrip() + '\n'


def cell(text: str) -> str:
  """Text for a cell of a Markdown table: no column border, no tag."""
  return re.sub(r'(?<!`)(<[^>\s]+>)(?!`)', r'`\1`', text.replace('|', r'\|'))


def page() -> str:
  """The whole page."""
  return '\n'.join([HEAD, *(table(path, cls) for path, cls in sections(Experiment))])


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = make_parser('configuration', __doc__)
  parser.add_argument('--write', type=Path, metavar='FILE', help='write it there, not to stdout')
  file = parser.parse_args(arguments).write
  if file is None:
    print(page(), end='')
  else:
    file.write_text(page(), encoding='utf-8')
  return 0


if __name__ == '__main__':
  sys.exit(main())
