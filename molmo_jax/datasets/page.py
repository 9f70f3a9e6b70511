"""docs/datasets.md, and the tables of docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from molmo_jax.datasets.recipes import STAGES, Entry
from molmo_jax.datasets.registry import GROUPS, TASKS, TRAINING
from molmo_jax.datasets.task import Task
from molmo_jax.metrics import is_judged

CHECKED = {'card': 'card on the Hub', 'loader': 'released loader', 'fork': 'loader of a fork',
           'reader': 'another reader', 'own': 'your own table', 'memory': '**not checked**'}
BEGIN, END = '<!-- tasks: begin -->', '<!-- tasks: end -->'
# Groups whose members have a table of their own; every task is in the first of them that has it.
_PARTS = {
  'One image': ('single_image', 'single_image_test', 'more_image'),
  'Several images': ('multi_image', 'more_multi_image'),
  'Video': ('short_video', 'long_video', 'more_video'),
  'Counting, pointing, tracking': ('image_pointing', 'video_pointing', 'tracking', 'more_pointing')}


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
    parts += [f'### {title}',
              _table(('task', 'split', 'style', 'new tokens', 'metric', 'group'), map(_how, tasks)),
              _table(('task', 'folder', 'where to get it', 'licence (from memory)',
                      'columns checked against', 'note'), map(_where, tasks))]
  return '\n\n'.join(parts)


def _how(task: Task) -> Sequence[str]:
  names = ', '.join(f'`{name}`' for name in (task.name, *task.aliases))
  metric = f'`{task.metric}`' + (' (judge)' if is_judged(task.metric) else '')
  style = f'`{task.asked_style}`' if task.asked_style else 'by question'
  return (names, ', '.join(task.splits), style, str(task.max_new_tokens), metric,
          ', '.join(f'`{group}`' for group in task.groups))


def _where(task: Task) -> Sequence[str]:
  return (f'`{task.name}`', f'`{task.folder}/`', task.source, task.licence, CHECKED[task.checked],
          task.note)


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


def training_page() -> str:
  """docs/datasets.md: the datasets of all stages."""
  introduction = Path(__file__).with_name('datasets.md').read_text(encoding='utf-8')
  lines, used = [introduction.rstrip(), ''], set()
  for stage, groups in STAGES.items():
    lines += [f'## {stage}', '']
    if stage == 'long_context':
      lines += ['The datasets and rates of `sft`, with longer rows and more frames.', '']
      continue
    total = sum(group.rate for group in groups.values())
    for name, group in groups.items():
      lines += [f'### {stage}, {name}: rate {group.rate:g}, {group.rate / total:.2%} of all draws',
                '', _table(('dataset', 'size, factor', 'extras', 'where', 'licence',
                            'columns checked against', 'note'), map(_line, group.entries)), '']
      used |= {entry.name for entry in group.entries}
  others = ', '.join(f'`{name}`' for name in sorted(set(TRAINING) - used))
  return '\n'.join([*lines, '## Datasets outside these stages', '', others, ''])


def _line(entry: Entry) -> Sequence[str]:
  size = ('√records' if entry.size is None else '1' if entry.size == 1 else f'√{entry.size:,.0f}')
  extras = [f'weight {entry.message_weight:g}'] if entry.message_weight is not None else []
  extras += [f'24 crops in {entry.p_high_res:.0%}'] if entry.p_high_res else []
  start = (f'`{entry.name}`', size + (f' · {entry.rate:g}' if entry.rate != 1 else ''),
           ', '.join(extras))
  if entry.name not in TRAINING:
    return (*start, '', '', 'not read yet: write the manifest yourself', '')
  use = TRAINING[entry.name]
  return (*start, use.source, use.licence, CHECKED[use.checked], use.note)
