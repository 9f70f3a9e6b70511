"""The command `molmo-jax walkthrough`: from pixels to tokens (molmo_jax/lab/walkthrough)."""

import sys

from molmo_jax.lab.walkthrough.command import main

if __name__ == '__main__':
  sys.exit(main())
