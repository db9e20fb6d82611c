"""From the modules of a PyTorch ``state_dict`` to a network: their order, and what it leaves open.

A state_dict does not say how modules are connected.  They are taken as one chain, and every guess
that shapes and names do not settle is refused, with what the caller can give instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from golden.function import ARGMAX, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, Function
from golden.lstm import Bidirectional
from golden.model import Dense, Layer, ModelError, Network
from golden.torch_layers import Linear, Module, Norm, Recurrent, joined

__all__ = ["FUNCTIONS", "MODULES", "chain", "ordered"]

Array = NDArray[np.float64]

MODULES = 16
"""The most modules of a network; their orders are searched."""

FUNCTIONS = {
    "none": IDENTITY,
    "relu": RELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "hardsigmoid": Function("HardSigmoid", 1 / 6, 0.5),
    "softmax": SOFTMAX,
    "argmax": ARGMAX,
}
"""By the names of torch.nn.functional."""


def ordered(
    modules: Sequence[Module], *, order: Sequence[str] | None, in_order: bool, notes: list[str]
) -> list[Module]:
    """The modules in the order in which they run.

    Parameters
    ----------
    modules : sequence of Module
        As in the file.
    order : sequence of str, optional
        Their names as they run.
    in_order : bool
        Whether the file's order is that in which they were defined.
    notes : list of str
        Where what is taken for granted is added.

    Raises
    ------
    ModelError
        If there is no LSTM, or no order that fits, or several.
    """
    if not any(isinstance(module, Recurrent) for module in modules):
        raise ModelError("the file must have the weights of an nn.LSTM or nn.LSTMCell, but has "
                         "none of their names, as weight_ih_l0")
    if len(modules) > MODULES:
        raise ModelError(f"a network must have at most {MODULES} modules, not {len(modules)}")
    if order is not None:
        found = _by_name(modules, [order] if isinstance(order, str) else order)
        reason, hint = "as given", ""
    elif in_order:
        for number, late in enumerate(modules):
            for early in modules[:number]:
                if _before(late.name, early.name):
                    raise ModelError(
                        f"{early} stands before {late} in the file, but by the numbers in their "
                        f"names they run the other way: give the order, {_order_text(modules)}"
                    )
        found = list(modules)
        reason, hint = "as in the file", f"; if it runs elsewhere, give {_order_text(modules)}"
    else:
        found = _by_shape(modules)
        reason, hint = "the only one that shapes and names allow", ""
    _check(found, hint)
    if len(found) > 1:
        notes.append(
            "the modules run one after the other in the order " + _names(found) + f", {reason}"
        )
    return found


def _names(modules: Sequence[Module]) -> str:
    return ", ".join(f"'{module.name}'" for module in modules)


def _order_text(modules: Sequence[Module]) -> str:
    """How the order is given, on the example of that in the file."""
    return "all as they run, like --order " + ",".join(module.name for module in modules)


def _by_name(modules: Sequence[Module], order: Sequence[str]) -> list[Module]:
    left = {module.name: module for module in modules}
    found: list[Module] = []
    for name in order:
        if name not in left:
            known = "is named twice" if name in {m.name for m in modules} else "is none of them"
            raise ModelError(
                f"the order must have the names of the modules, {_names(modules)}, but '{name}' "
                f"{known}"
            )
        found.append(left.pop(name))
    if left:
        raise ModelError(
            f"the order must have all modules, but {_names(list(left.values()))} "
            f"{'is' if len(left) == 1 else 'are'} missing"
        )
    return found


def _before(name: str, other: str) -> bool:
    """Whether the names differ in their numbers only, and this one's are the lower."""
    ours, theirs = (re.split(r"(\d+)", each) for each in (name, other))
    if ours[::2] != theirs[::2]:
        return False
    return [int(number) for number in ours[1::2]] < [int(number) for number in theirs[1::2]]


def _by_shape(modules: Sequence[Module]) -> list[Module]:
    """The one order in which each module takes what the one before it gives."""
    count = len(modules)
    # Sets of modules are bits of a number: those that come before each by their names, and used.
    first = [
        sum(1 << k for k in range(count) if _before(modules[k].name, module.name))
        for module in modules
    ]
    orders: list[list[Module]] = []
    dead: set[tuple[int, int | None]] = set()  # what is used, and the width then given

    def follow(run: tuple[int, ...], used: int, width: int | None) -> None:
        if len(run) == count:
            orders.append([modules[k] for k in run])
        if len(orders) > 1 or (used, width) in dead:
            return
        known = len(orders)
        for k, module in enumerate(modules):
            if not used >> k & 1 and not first[k] & ~used and width in (None, module.inputs):
                follow((*run, k), used | 1 << k, module.outputs)
        if len(orders) == known:
            dead.add((used, width))

    follow((), 0, None)
    if not orders:
        sizes = ", ".join(f"{m} ({m.inputs} to {m.outputs})" for m in modules)
        raise ModelError(f"there is no order in which each module takes what the one before it "
                         f"gives: {sizes}")
    if len(orders) > 1:
        raise ModelError(
            f"a .safetensors file does not keep the order of modules, and by their shapes they can "
            f"run as {_names(orders[0])} and as {_names(orders[1])}: give the order, "
            f"{_order_text(orders[0])}"
        )
    for module in modules:
        unclear = isinstance(module, Linear) and not module.biased
        if unclear and module.inputs == orders[0][0].inputs:
            raise ModelError(
                f"'{joined(module.name, 'weight')}' without a bias can be an nn.Linear's or, in "
                f"front, an nn.Embedding's, which is not supported: if it is a Linear's, give the "
                f"order, {_order_text(orders[0])}"
            )
    return orders[0]


def _check(modules: Sequence[Module], hint: str) -> None:
    """Refuse what does not fit together, and Linear layers before an LSTM."""
    last = max(k for k, module in enumerate(modules) if isinstance(module, Recurrent))
    for k, module in enumerate(modules):
        if isinstance(module, Linear) and k < last:
            raise ModelError(
                f"{module} must stand behind the LSTM, but stands before {modules[last]}{hint}"
            )
        if k and module.inputs != modules[k - 1].outputs:
            raise ModelError(
                f"{module} takes {module.inputs} inputs, but {modules[k - 1]} before it gives "
                f"{modules[k - 1].outputs}{hint}"
            )


def _function(value: str | Function) -> Function:
    if isinstance(value, Function):
        return value
    if str(value).lower() not in FUNCTIONS:
        raise ModelError(f"a function must be one of {', '.join(FUNCTIONS)}, not '{value}'")
    return FUNCTIONS[value.lower()]


def _functions(
    modules: Sequence[Module],
    functions: Sequence[str | Function] | Mapping[str, str | Function] | None,
    notes: list[str],
) -> dict[str, Function]:
    """The functions by the names of the modules that they follow."""
    last = max(k for k, module in enumerate(modules) if isinstance(module, Recurrent))
    head = modules[last + 1 :]
    linear = [module for module in head if isinstance(module, Linear)]
    if functions is None:
        if len(linear) > 1:
            example = ",".join(["relu"] * (len(linear) - 1) + ["none"])
            raise ModelError(
                f"a state_dict does not say which functions follow its {len(linear)} Linear "
                f"layers, {_names(linear)}: give them, like --functions {example}"
            )
        if linear:
            notes.append(f"no function follows {linear[0]}; the file does not say, and none is "
                         f"given")
        return {}
    if isinstance(functions, Mapping):
        names = [module.name for module in head]
        for name in functions:
            if name not in names:
                raise ModelError(
                    f"functions can follow the modules behind the last LSTM, "
                    f"{_names(head) or 'of which there is none'}, but one is given for '{name}'"
                )
        return {name: _function(value) for name, value in functions.items()}
    given = [functions] if isinstance(functions, str) else list(functions)
    if len(given) != len(linear):
        raise ModelError(
            f"there must be one function for each Linear layer, which are "
            f"{_names(linear) or 'none'}, not {len(given)}"
        )
    chosen = {module.name: _function(value) for module, value in zip(linear, given, strict=True)}
    for module, behind in pairwise(head):
        if isinstance(behind, Norm) and chosen.get(module.name, IDENTITY) != IDENTITY:
            raise ModelError(
                f"it is not clear whether the function of {module} stands before {behind} or "
                f"behind it: give the functions by name, like --functions {behind.name}=relu"
            )
    return chosen


def _head(
    modules: Sequence[Module], functions: Mapping[str, Function], eps: float, notes: list[str]
) -> tuple[Dense, ...]:
    """Dense layers of what stands behind the last LSTM."""
    head: list[Dense] = []
    scaling: tuple[Array, Array] | None = None  # of what the next layer takes
    for k, module in enumerate(modules):
        function = functions.get(module.name, IDENTITY)
        if isinstance(module, Linear):
            dense = module.dense if scaling is None else module.dense.of_scaled(*scaling)
            head.append(Dense(w=dense.w, bias=dense.bias, function=function))
            scaling = None
        elif isinstance(module, Norm):
            scale, shift = module.scaling(eps)
            if scaling is not None:
                scale, shift = scale * scaling[0], scale * scaling[1] + shift
            scaling = scale, shift
            behind = k + 1 < len(modules)
            if head and head[-1].function == IDENTITY:
                before = head.pop()
                head.append(Dense(
                    w=scale[:, None] * before.w, bias=scale * before.bias + shift,
                    function=function,
                ))
                scaling = None
            elif not behind or function != IDENTITY:
                head.append(Dense(w=np.diag(scale), bias=shift, function=function))
                scaling = None
                notes.append(f"{module} is a dense layer of its own, because there is no layer "
                             f"that it could be taken into")
    return tuple(head)


def chain(
    modules: Sequence[Module],
    *,
    every_step: bool | None,
    final: bool | None,
    functions: Sequence[str | Function] | Mapping[str, str | Function] | None,
    eps: float,
    notes: list[str],
) -> Network:
    """The network of modules that run one after the other.

    Parameters
    ----------
    modules : sequence of Module
        As they run, and fit.
    every_step, final, functions, eps
        As of `golden.torch_file.load`.
    notes : list of str
        Where what is taken into the weights or for granted is added.

    Raises
    ------
    ModelError
        If something is open that is not given, or given and does not fit.
    """
    if not (eps >= 0 and np.isfinite(eps)):
        raise ModelError(f"eps must be at least 0 and finite, not {eps}")
    last = max(k for k, module in enumerate(modules) if isinstance(module, Recurrent))
    chosen = _functions(modules, functions, notes)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            layers: list[Layer] = []
            scaling: list[tuple[Array, Array]] = []  # of what the next layer takes
            for module in modules[: last + 1]:
                if isinstance(module, Norm):
                    scaling.append(module.scaling(eps))
                elif isinstance(module, Recurrent):
                    layer = module.layers[0]
                    while scaling:
                        layer = layer.of_scaled(*scaling.pop())
                    layers += [layer, *module.layers[1:]]
            head = _head(modules[last + 1 :], chosen, eps, notes)
    except ModelError:
        raise
    except ValueError as error:  # folded numbers that are no longer finite
        raise ModelError(f"with its BatchNorm1d folded, {error}") from error
    for module in modules:
        if isinstance(module, Norm):
            notes.append(f"{module} is taken into the weights, with an eps of {eps:g}, which the "
                         f"file does not say")
        elif isinstance(module, Recurrent) and module.kind == "nn.LSTMCell":
            notes.append(f"{module} runs over all steps, from states of zero")
    try:
        network = Network(layers=tuple(layers), head=head)
    except ValueError as error:  # a softmax that is not the last
        raise ModelError(str(error)) from error
    bidirectional = isinstance(layers[-1], Bidirectional)
    return _with_output(network, bidirectional, every_step, final)


def _with_output(
    network: Network, bidirectional: bool, every_step: bool | None, final: bool | None
) -> Network:
    """The network with the output that is asked for."""
    if every_step is None:
        raise ModelError(
            "a state_dict does not say whether the model gives an output for every step or for the "
            "last one: give --steps every or --steps last"
            + (", or --steps final for h_n" if bidirectional else "")
        )
    if every_step and final:
        raise ModelError("the final states h_n are one output for a sequence, not for every step")
    if bidirectional and not every_step and final is None:
        raise ModelError(
            "a state_dict does not say what the output of a bidirectional LSTM is made of: give "
            "--steps last for out[:, -1] or --steps final for h_n, both directions"
        )
    return Network(
        layers=network.layers, head=network.head, every_step=every_step,
        final=bool(final) and bidirectional,
    )
