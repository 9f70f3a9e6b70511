"""Where train.py, eval.py and configs/ are: beside the package, or inside it once installed.

Standard library only: the list of commands appears without waiting for JAX.
"""

from __future__ import annotations

import sys
from pathlib import Path

_INSTALLED = Path(__file__).parent / '_programs'   # pyproject.toml puts them there in a wheel
HOME = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1]


def find_config(text: str) -> str:
  """`FILE[:options]` of `--config`: the project's own file where FILE does not exist here.

  So `--config=configs/image.py:size=8b` works in any folder. Configuration files import one another
  as `configs`, which this makes possible, too.
  """
  make_configs_importable()
  file, colon, options = text.partition(':')
  if not Path(file).exists() and (HOME / file).is_file():
    file = str(HOME / file)
  return file + colon + options


def make_configs_importable() -> None:
  """`from configs import scenes`, as in a configuration file, finds the project's own."""
  if str(HOME) not in sys.path:
    sys.path.insert(0, str(HOME))
