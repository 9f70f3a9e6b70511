"""A small synthetic dataset: images, clips, and manifests with questions about them."""
