"""Searches with fidelities: DEHB and Hyperband against random search at equal budgets, and on a meta-training recipe.

    python benchmarks/search.py [--case mixed counting-ones recipe] [--seeds N] [--budget N] [--out FILE] [--quick]

`mixed`: a function of 20 settings, six real, six logarithmic, four integers and four choices, whose optimum moves and
whose noise falls as the budget grows. `counting-ones` (Awad et al. 2021, https://arxiv.org/abs/2105.09821, section 5):
20 binary settings and 20 probabilities, of each of which the budget's number of coins is thrown. In both the figure is
the loss of the search's answer without noise at the largest budget, less the lowest possible one.

`recipe`: the meta-training of Adam's rate, decays and epsilon for an MLP on digits, by PES and from a rate of 1e-4. Its
own settings are searched: rate, first decay and final share of the rate of the outer Adam, std, window. The budget is
inner steps of a worker. The loss of a candidate is the mean loss over 200 steps of the optimizer that it meta-trained.
The answers, and the settings of the recipe `demo`, are meta-trained again with other seeds and the largest budget.

Random search gives each candidate the largest budget, and as many of them as cost what the others may spend. Writes
JSON and a PNG, and prints a table.
"""

import argparse
from collections.abc import Callable
import pathlib
import runpy
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.host import progress
from meta_train.outer import search
from meta_train.training import engine
from meta_train.unroll import truncation

_STANDARD = runpy.run_path(str(pathlib.Path(__file__).parent / "meta_training.py"))


class Function(NamedTuple):
    """A function to search.

    Fields:
      space: its settings.
      budgets: the smallest and the largest one.
      evaluate: `(config, budget) -> loss`.
      regret: `(config) -> float`, the loss without noise at the largest budget, less the lowest possible one.
    """

    space: dict[str, search.Dimension]
    budgets: tuple[int, int]
    evaluate: Callable[[dict[str, Any], int], float]
    regret: Callable[[dict[str, Any]], float]


def mixed(seed: int, budgets: tuple[int, int] = (1, 81)) -> Function:
    """The mean over 20 settings of squared distances from an optimum, on scales where each has the range 1."""
    random = np.random.default_rng(seed)
    optimum, drift = random.uniform(0.1, 0.9, 16), random.normal(size=16)
    labels = [tuple(int(i) for i in random.permutation(5)) for _ in range(4)]
    space = {f"real{i}": search.real(-1.0, 1.0) for i in range(6)}
    space |= {f"log{i}": search.real(1e-5, 1.0, log=True) for i in range(6)}
    space |= {f"integer{i}": search.integer(1, 20) for i in range(4)}
    space |= {f"choice{i}": search.choice(*labels[i]) for i in range(4)}
    targets = optimum.copy()
    targets[12:] = (np.round(1 + 19 * optimum[12:]) - 1) / 19  # integers can reach theirs

    def distance(config, shift):
        values = np.array([config[name] for name in list(space)[:16]], np.float64)
        units = np.concatenate([(values[:6] + 1) / 2, 1 + np.log10(values[6:12]) / 5, (values[12:] - 1) / 19])
        wrong = np.array([config[f"choice{i}"] / 4 for i in range(4)])  # option 0 is right, the others ever worse
        return float((np.sum((units - targets - shift) ** 2) + np.sum(wrong**2)) / 20)

    def evaluate(config, budget):
        shift = 0.1 * drift * (1 - budget / budgets[1])
        return distance(config, shift) + 0.02 * float(random.normal()) / budget**0.5

    return Function(space, budgets, evaluate, lambda config: distance(config, 0.0))


def counting_ones(seed: int, budgets: tuple[int, int] = (9, 729), size: int = 20) -> Function:
    """Minus the number of ones among binary settings, and of heads among coins with probabilities as settings."""
    random = np.random.default_rng(seed)
    space: dict[str, search.Dimension] = {f"bit{i}": search.choice(0, 1) for i in range(size)}
    space |= {f"probability{i}": search.real(0.0, 1.0) for i in range(size)}
    bits = lambda config: sum(config[f"bit{i}"] for i in range(size))
    probabilities = lambda config: np.array([config[f"probability{i}"] for i in range(size)])

    def evaluate(config, budget):
        return -bits(config) - float(np.sum(random.binomial(budget, probabilities(config)) / budget))

    return Function(
        space, budgets, evaluate, lambda config: float(2 * size - bits(config) - probabilities(config).sum())
    )


FUNCTIONS: dict[str, Callable[[int], Function]] = {"mixed": mixed, "counting-ones": counting_ones}


def contenders(space: dict[str, search.Dimension], budgets: tuple[int, int]) -> dict[str, search.FidelitySearch]:
    """The searches by name."""
    low, high = budgets
    return {
        "random": search.hyperband(space, min_budget=high, max_budget=high),
        "hyperband": search.hyperband(space, min_budget=low, max_budget=high),
        "dehb": search.dehb(space, min_budget=low, max_budget=high),
    }


def trajectory(strategy: search.FidelitySearch, function: Function, total: int, seed: int) -> list[tuple[int, float]]:
    """What was spent after each generation, up to a total, and the regret of the answer then; no loss here fails."""
    state, spent, rows = strategy.init(seed), 0, []
    while True:
        trials = strategy.ask(state)
        spent += sum(trial.budget for trial in trials)
        if spent > total:
            return rows
        state = strategy.tell(state, [function.evaluate(trial.config, trial.budget) for trial in trials])
        if (best := strategy.best(state)) is not None:
            rows.append((spent, function.regret(best.config)))


def compare(name: str, seeds: int, quick: bool) -> dict[str, Any]:
    """All searches on a function, at equal budgets."""
    low, high = (1, 9) if quick else FUNCTIONS[name](0).budgets
    total = high * (60 if quick else 500)
    shares = [share for share in (0.1, 0.2, 0.5, 1.0) if share * total > 10 * high]
    regrets: dict[str, dict[str, list[float]]] = {}
    for seed in progress.over(range(seeds), unit="seed"):
        function = FUNCTIONS[name](seed)._replace(budgets=(low, high))
        for title, strategy in contenders(function.space, (low, high)).items():
            rows = trajectory(strategy, function, total, seed)
            for share in shares:
                at = [regret for spent, regret in rows if spent <= share * total]
                regrets.setdefault(title, {}).setdefault(f"{share:g}", []).append(at[-1])
    return {
        "budgets": [low, high],
        "total_budget": total,
        "settings": len(FUNCTIONS[name](0).space),
        "regret_by_share_of_the_budget": {
            title: {share: _summary(values) for share, values in by.items()} for title, by in regrets.items()
        },
    }


def _summary(values):
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": float(values.mean()), "standard_error": error, "by_seed": values.tolist()}


DEMO = {"rate": 1e-2, "std": 0.01, "window": 50, "b1": 0.9, "final_share": 0.1}
RECIPE_SPACE = {
    "rate": search.real(1e-3, 0.3, log=True),
    "std": search.real(1e-3, 0.3, log=True),
    "window": search.choice(10, 20, 50),
    "b1": search.choice(0.0, 0.5, 0.9, 0.99),
    "final_share": search.real(0.01, 1.0, log=True),
}


def meta_training(optimizer: learned_optim.LearnedOptimizer, window: int) -> Callable[..., Any]:
    """`(settings, num_steps, seed) -> theta`, by PES with windows of that length; compiled once for all other settings.

    `fit` takes recipes with fixed settings and compiles each of them. Here the settings are arguments of one program.
    PES perturbs z by a std of 1, where theta is its first value plus std times z.
    """
    problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"))

    @jax.jit
    def train(settings, num_steps, key, data):
        start, std = optimizer.init(key), settings["std"]
        theta = lambda z: jax.tree.map(lambda first, x: first + std * x, start, z)
        scaled = problem._replace(
            init=lambda key, z, horizon: problem.init(key, theta(z), horizon),
            step=lambda key, z, state, data: problem.step(key, theta(z), state, data),
        )
        horizon = truncation.log_uniform(50, 200)
        pes = estimators.pes(scaled, num_particles=8, unroll_length=window, horizon=horizon, std=1.0)
        tx = optax.scale_by_adam(b1=settings["b1"])

        def step(count, carry):
            z, state, outer_state = carry
            gradient, state, _ = pes.estimate(jax.random.fold_in(key, count), z, state, data)
            updates, outer_state = tx.update(gradient, outer_state)
            done = count.astype(jnp.float32) / num_steps.astype(jnp.float32)
            share = settings["final_share"] + (1 - settings["final_share"]) * (1 + jnp.cos(jnp.pi * done)) / 2
            return jax.tree.map(lambda x, u: x - settings["rate"] / std * share * u, z, updates), state, outer_state

        z = jax.tree.map(jnp.zeros_like, start)
        return theta(jax.lax.fori_loop(0, num_steps, step, (z, pes.init(key, z), tx.init(z)))[0])

    def run(settings, num_steps, seed):
        numbers = {name: jnp.float32(value) for name, value in settings.items() if name != "window"}
        return train(numbers, jnp.int32(num_steps), jax.random.key(seed), problem.data)

    return run


def score(optimizer: learned_optim.LearnedOptimizer) -> Callable[[Any, int], float]:
    """`(theta, seed) -> loss`: the mean over 200 steps, as the task normalizes it, in eight trainings."""
    problem = problems.optimizer_weights(optimizer, tasks.get("digits-mlp"))
    estimator = search.episodes(problem, num_particles=8, horizon=truncation.constant(200))

    @jax.jit
    def loss(theta, key, data):
        return estimator.estimate(key, theta, estimator.init(key, theta), data)[2].loss

    return lambda theta, seed: float(loss(theta, jax.random.key(seed), estimator.data))


def tune_recipe(quick: bool, budget: int, folder: pathlib.Path) -> dict[str, Any]:
    """The recipe's settings by each search, and the answers with fresh seeds. The trials are kept in the folder."""
    budgets = (50, 150) if quick else (budget // 9, budget)
    optimizer = learned_optim.learned_adam(1e-4)
    loss, trainings = score(optimizer), {}

    def trained(config, budget, seed):
        window = config["window"]
        if window not in trainings:
            trainings[window] = meta_training(optimizer, window)
        return trainings[window](config, max(1, budget // window), seed)

    evaluate = lambda config, budget: loss(trained(config, budget, 0), 0)
    brackets = {"random": 4, "dehb": 2} if quick else {"random": 16, "dehb": 6}  # which cost the same
    answers: dict[str, Any] = {"demo": {"config": DEMO}}
    for name, count in brackets.items():
        began = time.perf_counter()
        journal = folder / f"search_recipe_{name}.jsonl"
        strategy = contenders(RECIPE_SPACE, budgets)[name]
        result = search.minimize(strategy, evaluate, num_brackets=count, journal=journal, resume=True)
        if result.best is None:
            raise ValueError("every trial failed")
        answers[name] = {
            "config": result.best.config,
            "loss_in_search": result.best.loss,
            "trials": len(result.trials),
            "spent": sum(trial["budget"] for trial in result.trials),
            "seconds": time.perf_counter() - began,
        }
    for answer in answers.values():
        seeds = range(1, 2 if quick else 6)
        answer["loss"] = _summary([loss(trained(answer["config"], budgets[1], seed), 100 + seed) for seed in seeds])
    return {"budgets": list(budgets), "answers": answers}


def draw(record: dict[str, Any], path: pathlib.Path) -> None:
    """The regrets over the budget, a panel for each function."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in FUNCTIONS if name in record]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        panel = figure.add_subplot(1, len(names), index + 1)
        for title, by in record[name]["regret_by_share_of_the_budget"].items():
            spent = [float(share) * record[name]["total_budget"] / record[name]["budgets"][1] for share in by]
            panel.plot(spent, [row["mean"] for row in by.values()], marker="o", label=title)
        panel.set(title=name, xlabel="budget, in trainings of full length", ylabel="regret", xscale="log", yscale="log")
        panel.legend()
    figure.savefig(path, dpi=110)
    print(f"Wrote {path}")


def main() -> None:
    """Runs the cases named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = [*FUNCTIONS, "recipe"]
    parser.add_argument("--case", nargs="+", choices=cases, default=cases, metavar="NAME", help="(default: all)")
    parser.add_argument("--seeds", type=int, default=20, help="of the functions (default: %(default)s)")
    parser.add_argument(
        "--budget",
        type=int,
        default=2700,
        help="of the recipe's meta-trainings: inner steps of a worker at most (default: %(default)s)",
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/benchmarks/search.json"))
    parser.add_argument("--quick", action="store_true", help="toy sizes: a smoke test, not a measurement")
    arguments = parser.parse_args()
    engine.cache_compilations()
    record = _STANDARD["about"]()
    for name in arguments.case:
        if name == "recipe":
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            record[name] = tune_recipe(arguments.quick, arguments.budget, arguments.out.parent)
            for title, answer in record[name]["answers"].items():
                print(f"{name:14} {title:10} {answer['loss']['mean']:.4f} {answer['config']}")
        else:
            record[name] = compare(name, arguments.seeds, arguments.quick)
            for title, by in record[name]["regret_by_share_of_the_budget"].items():
                print(f"{name:14} {title:10}", *(f"{share}: {row['mean']:.4f}" for share, row in by.items()))
    _STANDARD["write"](record, arguments.out)
    if set(FUNCTIONS) & set(record):
        draw(record, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
