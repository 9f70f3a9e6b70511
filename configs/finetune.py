"""Fine-tuning of a released Molmo2 checkpoint on your own data, or on the scenes to try it.

  python train.py --config=configs/finetune.py --workdir=runs/mine \
    --config.init_from=allenai/Molmo2-4B \
    --config.data.train=mine/train.jsonl --config.data.validation=mine/val.jsonl

Afterwards:

  python eval.py --workdir=runs/mine                                   # its validation set again
  molmo-jax convert runs/mine mine_molmo2 --layout hub           # for transformers and vLLM
  molmo-jax chat --model mine_molmo2 --image a.jpg "What is this?"
"""

from ml_collections import ConfigDict

from configs import molmo2
from molmo_jax.experiment import complete


def get_config() -> ConfigDict:
  """Fine-tuning of a released checkpoint on one manifest."""
  c = ConfigDict()
  c.name = 'finetune'            # the run's folder is runs/finetune unless --workdir says otherwise
  c.seed = 0                     # order of the data, dropout
  # a folder in the released or in transformers' layout, or an id on the Hugging Face Hub
  c.init_from = ''
  # drawn into data/scenes if data.train lies there; ignored otherwise
  c.scenes = ConfigDict(dict(train=dict()))

  # Sizes, ViT layers, pooling and projector come from the checkpoint; these are choices of the run.
  c.model = ConfigDict(dict(
    # of matrix products; weights, residual stream and optimiser are float32
    dtype='bfloat16',
    # recompute layers in the backward pass: less memory, a third more time
    remat='full',
    llm=dict(residual_dropout=0.0,              # on all tokens
             response_residual_dropout=0.1),    # on the tokens of answers, where overfitting begins
    # learned row, column, crop and box vectors; they start at zero
    connector=dict(layout_embedding=False)))

  # How pictures are cut comes from the checkpoint; how much of them is used is your choice.
  c.preprocess = ConfigDict(dict(
    image=dict(max_crops=8,      # K in training, the global view not counted
               max_crops_eval=24,               # K in evaluation
               max_images=5, max_images_eval=20),   # images in one example
    video=dict(max_frames=128,   # F in training, at 2 frames a second, the last frame always kept
               max_frames_eval=384),            # F in evaluation
    # long answers weigh less per token, as in training
    text=dict(message_weight='root_subsegments_root_tokens')))

  c.data = ConfigDict(dict(
    train='data/scenes/train.jsonl',            # JSONL, one example per line: docs/data.md
    validation='data/scenes/val.jsonl',         # what the run is evaluated on at its end
    tokenizer='',                # the checkpoint's
    scenes_root='data/scenes',
    batch_size=8,                # rows of a step, over all devices
    # tokens of a row; a record that needs more is skipped, and the log says so
    sequence_length=4096,
    crops=48,                    # crops or frames of a row
    visual_tokens=3888,          # pooled visual tokens of a row
    workers=0,                   # processes that read and encode; 0: two threads
    on_error='skip'))            # 'raise': end at the first record that cannot be used

  # Groups by parameter path, the first pattern that matches counts: the released recipe of
  # supervised fine-tuning.
  c.optimizer = molmo2.optimizer(connector=5e-6, vit=5e-6, llm=1e-5,
                                 warmup=dict(connector=200, vit=200, llm=200))
  c.training = ConfigDict(dict(
    steps=1000,
    log_every=10,                # steps between two lines of metrics.jsonl and TensorBoard
    checkpoint_every=250,        # an interrupted run goes on from the last one, bit for bit
    keep_checkpoints=2))
  c.evaluation = ConfigDict(dict(
    batch_size=8,                # questions answered together
    generation=dict(             # docs/generation.md
      max_new_tokens=64,         # longest answer
      temperature=0.0)))         # 0: the best token; above 0 tokens are drawn
  c.mesh = ConfigDict(dict(data=1, fsdp=-1, context=1, tensor=1))   # all devices share the weights
  return complete(c)
