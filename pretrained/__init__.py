"""Released weights: `NAME/theta.safetensors` and `NAME/card.md`. Installed as `learned_optim.pretrained`."""
