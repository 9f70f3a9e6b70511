"""Walks through what becomes of images or a video: eleven numbers in the terminal, and a page with
drawings.

  python -m molmo_jax.tools.walkthrough image.jpg
  python -m molmo_jax.tools.walkthrough image.jpg --config=configs/molmo_v1.py:size=7b_d --out=v1.html
  python -m molmo_jax.tools.walkthrough a.jpg b.jpg --question="What changed?"
  python -m molmo_jax.tools.walkthrough clip.mp4 --config=configs/video.py:size=8b --inference

The counts are those of the arrays that training gets (with --inference: that a prompt gives). No
weights are needed. Any value of the configuration is a flag:
--config.preprocess.image.max_crops=36.
"""

import sys

from absl import flags

from molmo_jax.lab.walkthrough import command

if __name__ == '__main__':
  flags.adopt_module_key_flags(command)
  sys.exit(command.run_main())
