"""Tiny language models and image towers in folders as transformers stores them; names are spelled
out by hand.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from safetensors.numpy import save_file

from molmo_jax.initial import from_backbones
from molmo_jax.model.config import LlmConfig, VitConfig
from molmo_jax.model.molmo import Network
from molmo_jax.terminal import Terminal
from tests.checkpoint.hub import abstract

KEY = jax.random.key(11)
FAMILIES = {   # what tiny language models of a family have in common, in our words
  'qwen2': dict(qk_norm='none', qkv_bias=True), 'qwen3': dict(qk_norm='head'),
  'olmo2': dict(qk_norm='full', norm_order='post', kv_heads=4),
            'olmo3': dict(qk_norm='full', norm_order='post'),
  'olmoe': dict(qk_norm='full', experts=3, experts_per_token=2)}


def language_model(c: LlmConfig, family: str, rows: int | None = None):
  """config.json and tensors; `rows` of the tables, if they are padded."""
  d, h, rows = c.width, c.head_dim, rows or c.vocab
  config = dict(model_type=family, hidden_size=d, num_hidden_layers=c.layers,
                num_attention_heads=c.heads,
                num_key_value_heads=c.kv_heads, head_dim=h, intermediate_size=c.mlp,
                hidden_act='silu',
                rope_theta=c.rope_theta, rms_norm_eps=c.norm_eps, vocab_size=rows,
                tie_word_embeddings=False)
  shapes = {'model.embed_tokens.weight': (rows, d), 'lm_head.weight': (rows, d),
            'model.norm.weight': (d,)}
  norms = ('post_attention_layernorm',
           'post_feedforward_layernorm' if c.norm_order == 'post' else 'input_layernorm')
  for i in range(c.layers):
    layer, attention = f'model.layers.{i}', f'model.layers.{i}.self_attn'
    q, kv = c.heads * h, c.kv_heads * h
    shapes |= {f'{layer}.{name}.weight': (d,) for name in norms}
    shapes |= {f'{attention}.q_proj.weight': (q, d), f'{attention}.k_proj.weight': (kv, d),
               f'{attention}.v_proj.weight': (kv, d), f'{attention}.o_proj.weight': (d, q)}
    if c.qkv_bias:
      shapes |= {f'{attention}.q_proj.bias': (q,), f'{attention}.k_proj.bias': (kv,),
                 f'{attention}.v_proj.bias': (kv,)}
    if c.qk_norm != 'none':
      normed = (q, kv) if c.qk_norm == 'full' else (h, h)
      shapes |= {f'{attention}.q_norm.weight': normed[:1], f'{attention}.k_norm.weight': normed[1:]}
    mlps = [f'{layer}.mlp.experts.{e}' for e in range(c.experts)] or [f'{layer}.mlp']
    for mlp in mlps:
      shapes |= {f'{mlp}.gate_proj.weight': (c.mlp, d), f'{mlp}.up_proj.weight': (c.mlp, d),
                 f'{mlp}.down_proj.weight': (d, c.mlp)}
    if c.experts:
      shapes[f'{layer}.mlp.gate.weight'] = (c.experts, d)
      config |= dict(num_experts=c.experts, num_experts_per_tok=c.experts_per_token,
                     norm_topk_prob=False)
  return config, _draw(shapes)


def image_tower(c: VitConfig, blocks: int, positions: int | None = None):
  """config.json and tensors of CLIP (with its text tower), SigLIP or DINOv2, as `c.normalize` says.
  """
  e, p, family = c.width, c.patch_size, {'openai': 'clip', 'siglip': 'siglip',
                                         'dino': 'dinov2'}[c.normalize]
  rows = (positions or c.patches) + c.class_token
  vision = dict(hidden_size=e, num_hidden_layers=blocks, num_attention_heads=c.heads, patch_size=p,
                hidden_act={'quick_gelu': 'quick_gelu', 'gelu_tanh': 'gelu_pytorch_tanh',
                            'gelu': 'gelu'}[c.activation])
  parts = {'siglip': ('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj',
                      'self_attn.out_proj'),
           'dinov2': ('attention.attention.query', 'attention.attention.key',
                      'attention.attention.value',
                      'attention.output.dense')}
  parts['clip'] = parts['siglip']
  if family == 'dinov2':
    prefix, block, norms = '', 'encoder.layer', ('norm1', 'norm2')
    shapes = {'embeddings.cls_token': (1, 1, e), 'embeddings.mask_token': (1, e),
              'layernorm.weight': (e,),
              'layernorm.bias': (e,), 'embeddings.position_embeddings': (1, rows, e),
              'embeddings.patch_embeddings.projection.weight': (e, 3, p, p),
              'embeddings.patch_embeddings.projection.bias': (e,)}
    config = dict(vision, model_type='dinov2', mlp_ratio=c.mlp // e)
  else:
    prefix, block, norms = 'vision_model.', 'encoder.layers', ('layer_norm1', 'layer_norm2')
    shapes = {'vision_model.embeddings.patch_embedding.weight': (e, 3, p, p), 'logit_scale': (),
              'vision_model.embeddings.position_embedding.weight': (rows, e),
              'vision_model.post_layernorm.weight': (e,), 'vision_model.post_layernorm.bias': (e,),
              'text_model.encoder.layers.0.self_attn.q_proj.weight': (4, 4)}
    config = dict(model_type=family, vision_config=dict(vision, intermediate_size=c.mlp),
                  text_config={})
    if family == 'clip':
      shapes |= {'vision_model.embeddings.class_embedding': (e,),
                 'vision_model.pre_layrnorm.weight': (e,),
                 'vision_model.pre_layrnorm.bias': (e,), 'visual_projection.weight': (4, e)}
    else:
      shapes |= {'vision_model.embeddings.patch_embedding.bias': (e,),
                 'vision_model.head.probe': (1, 1, e),
                 'logit_bias': (1,)}
  for i in range(blocks):
    name = f'{prefix}{block}.{i}'
    sizes = dict.fromkeys(parts[family], (e, e)) | {'mlp.fc1': (c.mlp, e), 'mlp.fc2': (e, c.mlp)}
    shapes |= {f'{name}.{part}.weight': size for part, size in sizes.items()}
    shapes |= {f'{name}.{part}.bias': size[:1] for part, size in sizes.items()}
    shapes |= {f'{name}.{norm}.{leaf}': (e,) for norm in norms for leaf in ('weight', 'bias')}
    if c.layer_scale:
      shapes |= {f'{name}.layer_scale{n}.lambda1': (e,) for n in (1, 2)}
  return config, _draw(shapes)


def _draw(shapes):
  rng = np.random.default_rng(7)
  return {name: rng.normal(0, 0.3, shape).astype(np.float32)
          for name, shape in sorted(shapes.items())}


def write(folder, config, tensors):
  """The folder, as a string."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  save_file(tensors, folder / 'model.safetensors')
  return str(folder)


def load(c, llm='', vit='', console=None, shardings=None):
  """The whole parameter tree of a run that starts from these folders."""
  shardings = shardings or (
    lambda tree: jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), tree))
  run = SimpleNamespace(model=c, init_llm=str(llm), init_vit=str(vit))
  return from_backbones.load_params(run, Network(c), KEY, abstract(c, shardings),
                               console or Terminal(quiet=True))
