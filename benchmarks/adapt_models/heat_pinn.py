"""A physics-informed network for the heat equation ∂u/∂t = ¼ ∂²u/∂x², 0 ≤ x ≤ 1, 0 ≤ t ≤ 1, in plain JAX.

Raissi et al. 2019, https://doi.org/10.1016/j.jcp.2018.10.045. u(x, 0) = sin πx, u(0, t) = u(1, t) = 0; the solution is
exp(-π² t / 4) sin πx. The held-out loss is the mean squared distance from it.
"""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, NUM_POINTS = 32, 64


def init(key):
    sizes = [2, WIDTH, WIDTH, WIDTH, 1]
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(key, (fan_in, fan_out)) * jnp.sqrt(1 / fan_in), "b": jnp.zeros(fan_out)}
        for key, fan_in, fan_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def u(params, x, t):
    hidden = jnp.stack([x, t])
    for layer in params[:-1]:
        hidden = jnp.tanh(hidden @ layer["w"] + layer["b"])
    return (hidden @ params[-1]["w"] + params[-1]["b"])[0]


def residual(params, x, t):
    du_dt = jax.grad(u, argnums=2)(params, x, t)
    d2u_dx2 = jax.grad(jax.grad(u, argnums=1), argnums=1)(params, x, t)
    return du_dt - 0.25 * d2u_dx2


def loss(params, batch, key):
    x, t = batch["x"], batch["t"]
    at = jax.vmap(u, in_axes=(None, 0, 0))
    inside = jnp.mean(jax.vmap(residual, in_axes=(None, 0, 0))(params, x, t) ** 2)
    beginning = jnp.mean((at(params, x, jnp.zeros_like(t)) - jnp.sin(jnp.pi * x)) ** 2)
    ends = jnp.mean(at(params, jnp.zeros_like(x), t) ** 2 + at(params, jnp.ones_like(x), t) ** 2)
    return inside + 10 * (beginning + ends)


def batches(key):
    while True:
        key, subkey = jax.random.split(key)
        x, t = jax.random.uniform(subkey, (2, NUM_POINTS))
        yield {"x": x, "t": t}


def held_out(key):
    x, t = np.meshgrid(np.linspace(0, 1, 33, dtype=np.float32), np.linspace(0, 1, 32, dtype=np.float32))
    return {"x": x.ravel(), "t": t.ravel()}


def metrics(params, batch):
    x, t = batch["x"], batch["t"]
    exact = jnp.exp(-(jnp.pi**2) * t / 4) * jnp.sin(jnp.pi * x)
    return {"loss": jnp.mean((jax.vmap(u, in_axes=(None, 0, 0))(params, x, t) - exact) ** 2)}
