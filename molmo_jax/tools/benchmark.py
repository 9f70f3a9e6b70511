"""The command `molmo-jax benchmark`: speed (molmo_jax/lab/benchmark)."""

import sys

from molmo_jax.lab.benchmark.environment import restart_with_huge_pages

if __name__ == '__main__':
  restart_with_huge_pages()   # before JAX and torch start
  from molmo_jax.lab.benchmark.command import main
  sys.exit(main())
