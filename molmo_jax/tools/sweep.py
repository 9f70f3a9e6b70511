"""The command `molmo-jax sweep`: ablation studies (molmo_jax/lab/sweep)."""

import sys

from molmo_jax.lab.sweep.command import main

if __name__ == '__main__':
  sys.exit(main())
