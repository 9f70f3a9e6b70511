"""Runs studies, arms × seeds through train.py, and makes their report: tables with intervals and
p-values, and plots.

  python -m molmo_jax.tools.sweep --study=pooling                       # configs/ablations.py → runs/ablations
  python -m molmo_jax.tools.sweep --study=all --list                    # arms, flags, runs, time; --dry_run: commands
  python -m molmo_jax.tools.sweep --study=pooling,columns --seeds=2 --config.training.steps=300 --out=runs/quick
  python -m molmo_jax.tools.sweep --config=mine.py --study=all --out=runs/mine
  python -m molmo_jax.tools.sweep --report_only --out=runs/ablations    # the report again, from the folders

Every run has its folder <out>/runs/<flags>-seed<seed>-<hash>, with flags.json and log.txt. After an
interruption start the sweep again with the same command: finished runs stay, others go on from
their checkpoint. Writes report.html, report.md, results.csv and results.json into <out>. Exit
status: 0 if all runs are finished.
"""

import sys

from absl import flags

from molmo_jax.lab.sweep import command

if __name__ == '__main__':
  flags.adopt_module_key_flags(command)
  sys.exit(command.run_main())
