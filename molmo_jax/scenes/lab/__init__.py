"""Harder scenes for ablations: each kind needs something that an arm of a study takes away."""
