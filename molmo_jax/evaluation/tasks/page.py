"""The tables of docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from molmo_jax.evaluation.tasks.registry import GROUPS, TASKS
from molmo_jax.evaluation.tasks.task import Task
from molmo_jax.metrics import is_judged

BEGIN, END = '<!-- tasks: begin -->', '<!-- tasks: end -->'
# Groups whose members have a table of their own; every task is in the first of them that has it.
_PARTS = {
  'One image': ('single_image', 'single_image_test', 'more_image'),
  'Several images': ('multi_image', 'more_multi_image'),
  'Video': ('short_video', 'long_video', 'more_video'),
  'Counting, pointing, tracking': ('image_pointing', 'video_pointing', 'tracking', 'more_pointing'),
}


def tables() -> str:
  """Markdown: the groups, and every task with how it is asked and scored and where its files come
  from.
  """
  parts = ['### Groups', _table(('group', 'tasks'), [
    (f'`{name}`', ', '.join(f'`{member}`' for member in members))
    for name, members in GROUPS.items()])]
  left = dict(TASKS)
  for title, groups in _PARTS.items():
    tasks = [left.pop(name) for group in groups for name in GROUPS[group] if name in left]
    parts += [f'### {title}', _table(('task', 'split', 'style', 'new tokens', 'metric', 'group'),
                                     map(_how, tasks)),
              _table(('task', 'folder', 'where to get it', 'licence (from memory)',
                      'columns checked against', 'note'),
                     map(_where, tasks))]
  return '\n\n'.join(parts)


def _how(task: Task) -> Sequence[str]:
  names = ', '.join(f'`{name}`' for name in (task.name, *task.aliases))
  metric = f'`{task.metric}`' + (' (judge)' if is_judged(task.metric) else '')
  return (names, ', '.join(task.splits), f'`{task.style}`', str(task.max_new_tokens), metric,
          ', '.join(f'`{group}`' for group in task.groups))


def _where(task: Task) -> Sequence[str]:
  return (f'`{task.name}`', f'`{task.folder}/`', task.source, task.licence, task.schema, task.note)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  lines = [head, ['---'] * len(head), *rows]
  return '\n'.join(f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in line)} |'
                   for line in lines)


def with_tables(page: str) -> str:
  """`page` with the tables between its markers brought up to date.

  Raises:
    ValueError: a page without the markers.
  """
  before, begin, rest = page.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise ValueError(f'the page needs the lines {BEGIN} and {END}')
  return f'{before}{BEGIN}\n\n{tables()}\n\n{END}{after}'
