"""Calls a GAN's loss with two small networks, and measures both losses and their gradients."""

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, Final

import torch
from torch import Tensor, nn

UNTOUCHED: Final = 0
LEFT_GRADIENTS: Final = 1  # the function has called backward()
CHANGED: Final = 2  # it has changed the networks' parameters
FROZEN: Final = 3  # it has left requires_grad at False


class SmallGenerator(nn.Module):
    """z (B, Z) → images (B, 1, S, S): a linear map."""

    def __init__(self, weight: Tensor, bias: Tensor):
        """Args: weight: (Z, S·S); bias: (S·S,)"""
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.size = round(len(bias) ** 0.5)

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight + self.bias).reshape(-1, 1, self.size, self.size)


class SmallDiscriminator(nn.Module):
    """Images (B, 1, S, S) → logits (B, 1), or (B,) if it is `flat`: one hidden layer with tanh."""

    def __init__(self, weight: Tensor, bias: Tensor, last_weight: Tensor, last_bias: Tensor, flat: bool):
        """Args: weight: (S·S, H); bias: (H,); last_weight: (H, 1); last_bias: (1,)"""
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.last_weight, self.last_bias = nn.Parameter(last_weight), nn.Parameter(last_bias)
        self.flat = flat

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.tanh(images.flatten(1) @ self.weight + self.bias) @ self.last_weight + self.last_bias
        return logits.squeeze(1) if self.flat else logits


def losses(
    function: Callable[..., Any], x_real: Tensor, z: Tensor, g_weight: Tensor, g_bias: Tensor, *of_discriminator: Any
) -> Any:
    """What `function` makes of networks with these parameters.

    Args:
        x_real: (B, 1, S, S)
        z: (B, Z)
        g_weight, g_bias: the generator's; see `SmallGenerator`
        of_discriminator: see `SmallDiscriminator`

    Returns:
        d_loss, g_loss; the same of another call; the gradient of d_loss with respect to the discriminator's parameters,
        and to the generator's; that of g_loss with respect to the generator's; what was done to the networks. A
        gradient holds those of all parameters in a row; where none flows, zeros. If the losses are not two, or no
        single numbers: what the function returned.
    """
    g, d = SmallGenerator(g_weight, g_bias), SmallDiscriminator(*of_discriminator)
    return _measured(function, g, d, x_real, z)


def losses_beside(
    function: Callable[..., Any],
    d_loss: float,
    g_loss: float,
    d_of_d: Tensor,
    g_of_g: Tensor,
    x_real: Tensor,
    z: Tensor,
    g_weight: Tensor,
    g_bias: Tensor,
    *of_discriminator: Any,
) -> Any:
    """As `losses`, while another function stands in for `loss_nonsaturating` beside `function`.

    For these networks and this batch, it returns d_loss and g_loss, with the gradients d_of_d and g_of_g.
    """
    g, d = SmallGenerator(g_weight, g_bias), SmallDiscriminator(*of_discriminator)
    module = getattr(function, "__globals__", {})
    own: Any = module.get("loss_nonsaturating")

    def stand_in(*given: Any, **named: Any) -> Any:
        arguments = (*given, *named.values())
        if len(arguments) != 4 or not all(map(is_, arguments, (g, d, x_real, z))):
            return own(*given, **named)
        return _with_gradient(d_loss, d_of_d, d), _with_gradient(g_loss, g_of_g, g)

    if callable(own):
        module["loss_nonsaturating"] = stand_in
    try:
        return _measured(function, g, d, x_real, z)
    finally:
        if callable(own):
            module["loss_nonsaturating"] = own


def _with_gradient(value: float, gradient: Tensor, network: nn.Module) -> Tensor:
    """A tensor with this value, and this gradient with respect to the parameters of `network`."""
    parameters = torch.cat([each.flatten() for each in network.parameters()])
    return value + (gradient * (parameters - parameters.detach())).sum()


def _measured(function: Callable[..., Any], g: nn.Module, d: nn.Module, x_real: Tensor, z: Tensor) -> Any:
    parameters = [*g.parameters(), *d.parameters()]
    before = [each.detach().clone() for each in parameters]
    returned = function(g, d, x_real, z)
    if not _are_losses(returned):
        return returned
    done = _done_to(parameters, before)
    for each in parameters:
        each.requires_grad_(True)
    d_loss, g_loss = returned
    gradients = (
        _gradient(d_loss, list(d.parameters())),
        _gradient(d_loss, list(g.parameters())),
        _gradient(g_loss, list(g.parameters())),
    )
    again = function(g, d, x_real, z)
    values = [_number(loss) for loss in (d_loss, g_loss, *(again if _are_losses(again) else returned))]
    return (*values, *gradients, done)


def _are_losses(returned: Any) -> bool:
    def is_number(loss: Any) -> bool:
        return loss.numel() == 1 if isinstance(loss, Tensor) else type(loss) in (int, float)

    return type(returned) in (tuple, list) and len(returned) == 2 and all(map(is_number, returned))


def _number(loss: Tensor | float) -> float:
    return float(loss.item() if isinstance(loss, Tensor) else loss)


def _done_to(parameters: Sequence[Tensor], before: Sequence[Tensor]) -> int:
    if any(each.grad is not None for each in parameters):
        return LEFT_GRADIENTS
    if not all(torch.equal(each, old) for each, old in zip(parameters, before, strict=True)):
        return CHANGED
    return UNTOUCHED if all(each.requires_grad for each in parameters) else FROZEN


def _gradient(loss: Any, parameters: Sequence[Tensor]) -> Tensor:
    none = torch.zeros(sum(each.numel() for each in parameters))
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        return none
    try:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    except RuntimeError:  # the function has called backward(), or changed what its graph needs
        return none
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(each) if grad is None else grad).flatten() for grad, each in pairs])
