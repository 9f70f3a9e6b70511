"""A small synthetic dataset of ordinary files: images, clips and JSONL manifests with questions
about them.
"""
