"""Lists all benchmarks as markdown: `python -m molmo_jax.datasets`; `--write FILE` updates
a page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from molmo_jax.datasets.page import tables, with_tables

parser = argparse.ArgumentParser(prog='python -m molmo_jax.datasets', description=__doc__)
parser.add_argument('--write', type=Path, metavar='FILE', help='docs/evaluation.md')
options = parser.parse_args()
if options.write:
  options.write.write_text(with_tables(options.write.read_text(encoding='utf-8')), encoding='utf-8')
else:
  print(tables())
