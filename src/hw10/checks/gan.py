"""The tests of the GAN's losses: values and gradients, for two small networks with random parameters.

What is right is computed in float64 from the same parameters, with gradients by the chain rule, written out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from gradescope_utils.autograder_utils.decorators import number, weight
from numpy.typing import NDArray

from src.errors import PointsLost
from src.grading.chart import Chart
from src.grading.part_test import Mistake, Mistakes
from src.grading.sandbox.messages import Argument, Returned
from src.hw10.checks.base import HW10Test, arrays
from src.hw10.hints import gan as hints
from src.hw10.hints.gan import Floats, LossCase, Stage, same, sigmoid, surprise

FILE = "gan.py"
SIDE, NOISE, HIDDEN_UNITS = 4, 3, 5  # of the small networks: images of 4 × 4 pixels
LARGE = 110.0  # float32 holds neither σ(-h) nor exp(h) of a logit h above this
DONE: dict[float, tuple[Mistake, ...]] = {
    1: (hints.BACKWARD,),
    2: (hints.NETWORKS_CHANGED,),
    3: (hints.LEFT_FROZEN,),
}  # what the harness says was done to the networks
GRADIENTS = {  # a field of `Measured` → what it is
    "d_of_d": "d_loss for the discriminator's parameters",
    "d_of_g": "d_loss for the generator's parameters",
    "g_of_g": "g_loss for the generator's parameters",
}


@dataclass(frozen=True)
class Loss:
    """One of the two functions: what its g_loss averages over the generated images."""

    function: str
    value: Callable[[Floats], Floats]  # logits (B,) → the number of each image
    slope: Callable[[Floats], Floats]  # its derivative
    stages: Sequence[Stage]


NONSATURATING = Loss("loss_nonsaturating", surprise, lambda logits: -sigmoid(-logits), hints.NONSATURATING_STAGES)
MINIMAX = Loss("loss_minimax", lambda logits: -surprise(-logits), lambda logits: -sigmoid(logits), hints.MINIMAX_STAGES)


class NonsaturatingTest(HW10Test):
    """`loss_nonsaturating` returns the losses of the discriminator and of the generator."""

    part = "3c"

    @number("3c.1")
    @weight(1)
    def test_values(self) -> None:
        """Both losses are the means of the handout"""
        check_values(self, NONSATURATING, some_batches(self.rng))

    @number("3c.2")
    @weight(1)
    def test_gradients(self) -> None:
        """d_loss trains the discriminator alone, and g_loss the generator"""
        check_gradients(self, NONSATURATING, [a_batch(self.rng, 6), a_batch(self.rng, 9)])

    @number("3c.3")
    @weight(1)
    def test_large(self) -> None:
        """Values and gradients stay right where logits are large"""
        check_large(self, NONSATURATING, a_batch(self.rng, 6), a_large_batch(self.rng, 12))


class MinimaxTest(HW10Test):
    """`loss_minimax` returns the same loss of the discriminator, and the minimax loss of the generator."""

    part = "3d"

    @number("3d.1")
    @weight(1)
    def test_values(self) -> None:
        """g_loss is the mean of log(1 - D(G(z))), and d_loss that of 3c"""
        check_values(self, MINIMAX, some_batches(self.rng))

    @number("3d.2")
    @weight(1)
    def test_gradients(self) -> None:
        """Gradients reach the right network, also where logits are large"""
        check_gradients(self, MINIMAX, [a_batch(self.rng, 7), a_batch(self.rng, 4)])
        check_large(self, MINIMAX, a_batch(self.rng, 5), a_large_batch(self.rng, 10))


# --- the networks ---


@dataclass(frozen=True)
class Batch:
    """A batch, and the parameters of the two networks; see `src.hw10.harness.gan`. All are float32."""

    x_real: NDArray[np.float32]  # (B, 1, S, S)
    z: NDArray[np.float32]  # (B, Z)
    g_weight: NDArray[np.float32]  # (Z, S·S)
    g_bias: NDArray[np.float32]  # (S·S,)
    weight: NDArray[np.float32]  # (S·S, H)
    bias: NDArray[np.float32]  # (H,)
    last_weight: NDArray[np.float32]  # (H, 1)
    last_bias: NDArray[np.float32]  # (1,)
    flat: bool  # whether the logits are (B,) instead of (B, 1)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Those of the harness."""
        networks = (self.g_weight, self.g_bias, self.weight, self.bias, self.last_weight, self.last_bias)
        return (self.x_real, self.z, *networks, self.flat)

    @property
    def real(self) -> Floats:
        """The real images as rows, (B, S·S)."""
        return _float64(self.x_real).reshape(len(self.x_real), -1)

    @property
    def fake(self) -> Floats:
        """The generated images as rows, (B, S·S)."""
        return _float64(self.z) @ _float64(self.g_weight) + _float64(self.g_bias)

    def hidden(self, images: Floats) -> Floats:
        """The discriminator's hidden layer for `images` (B, S·S), (B, H)."""
        return np.asarray(np.tanh(images @ _float64(self.weight) + _float64(self.bias)))

    def logits(self, images: Floats) -> Floats:
        """The discriminator's logits for `images` (B, S·S), (B,)."""
        return np.asarray((self.hidden(images) @ _float64(self.last_weight) + _float64(self.last_bias))[:, 0])

    @property
    def case(self) -> LossCase:
        """What the discriminator says."""
        return LossCase(self.logits(self.real), self.logits(self.fake))

    @property
    def description(self) -> str:
        """For a person."""
        case = self.case
        every = np.concatenate((case.real, case.fake))
        shape = f"({len(self.z)},)" if self.flat else f"({len(self.z)}, 1)"
        return f"small networks, with logits of shape {shape} from {every.min():.3g} to {every.max():.3g}"


def a_batch(rng: np.random.Generator, size: int, flat: bool = False, scale: float = 1.0) -> Batch:
    """A batch of `size` images and random networks; `scale` multiplies the logits."""
    pixels = SIDE * SIDE

    def normal(deviation: float, *shape: int) -> NDArray[np.float32]:
        return rng.normal(0, deviation, shape).astype(np.float32)

    return Batch(
        x_real=rng.uniform(0, 1, (size, 1, SIDE, SIDE)).astype(np.float32),
        z=normal(1.0, size, NOISE),
        g_weight=normal(0.5, NOISE, pixels),
        g_bias=normal(0.5, pixels),
        weight=normal(0.5, pixels, HIDDEN_UNITS),
        bias=normal(0.3, HIDDEN_UNITS),
        last_weight=normal(scale, HIDDEN_UNITS, 1),
        last_bias=normal(0.3 * scale, 1),
        flat=flat,
    )


def some_batches(rng: np.random.Generator) -> list[Batch]:
    """Batches of several sizes, and logits of both shapes."""
    return [a_batch(rng, 6), a_batch(rng, 4, flat=True), a_batch(rng, 9)]


def a_large_batch(rng: np.random.Generator, size: int, flat: bool = False) -> Batch:
    """A batch with real and fake images whose logits are beyond `LARGE`, and below -`LARGE`."""
    while True:
        batch = a_batch(rng, size, flat, scale=float(rng.uniform(100, 150)))
        case = batch.case
        if all(logits.max() > LARGE and logits.min() < -LARGE for logits in (case.real, case.fake)):
            return batch


def _float64(array: NDArray[np.float32]) -> Floats:
    return array.astype(np.float64)


# --- what is right ---


@dataclass(frozen=True)
class Measured:
    """Both losses and their gradients, as `src.hw10.harness.gan.losses` returns them."""

    d_loss: float
    g_loss: float
    d_again: float  # of another call with the same arguments
    g_again: float
    d_of_d: Floats  # gradient of d_loss with respect to all parameters of the discriminator
    d_of_g: Floats  # of d_loss to the generator's
    g_of_g: Floats  # of g_loss to the generator's
    done: float = 0  # to the networks


def expected(loss: Loss, batch: Batch) -> Measured:
    """What is right."""
    case, count = batch.case, len(batch.z)
    d_loss = float(surprise(case.real).mean() + surprise(-case.fake).mean())
    g_loss = float(loss.value(case.fake).mean())
    _, of_images = _backward(batch, batch.fake, loss.slope(case.fake) / count)
    g_of_g = np.concatenate(((_float64(batch.z).T @ of_images).ravel(), of_images.sum(axis=0)))
    d_of_d = of_real_images(batch) + _backward(batch, batch.fake, sigmoid(case.fake) / count)[0]
    return Measured(d_loss, g_loss, d_loss, g_loss, d_of_d, np.zeros_like(g_of_g), g_of_g)


def of_real_images(batch: Batch) -> Floats:
    """The part of the discriminator's gradient that comes from real images."""
    return _backward(batch, batch.real, -sigmoid(-batch.case.real) / len(batch.z))[0]


def _backward(batch: Batch, images: Floats, of_logits: Floats) -> tuple[Floats, Floats]:
    """From a loss's gradient with respect to the logits, (B,): to all parameters, and to the images (B, S·S)."""
    hidden = batch.hidden(images)  # (B, H)
    of_sums = of_logits[:, None] * _float64(batch.last_weight)[:, 0] * (1 - hidden**2)  # (B, H), before tanh
    of_parameters = (images.T @ of_sums, of_sums.sum(axis=0), hidden.T @ of_logits, of_logits.sum(keepdims=True))
    return np.concatenate([each.ravel() for each in of_parameters]), of_sums @ _float64(batch.weight).T


# --- the checks ---


def check_values(test: HW10Test, loss: Loss, batches: Sequence[Batch]) -> list[tuple[Measured, Measured]]:
    """Both losses of each batch are right. Returns what was measured, and what is right, of each batch."""
    pairs = [_measured(test, loss, batch) for batch in batches]
    labels = [f"{name}, batch {i + 1}" for i in range(len(batches)) for name in ("d_loss", "g_loss")]
    got, right = ([v for pair in pairs for v in (pair[i].d_loss, pair[i].g_loss)] for i in (0, 1))
    chart = Chart("Both losses of each batch", "", tuple(labels), tuple(right), tuple(got))
    wrong = [i for i, pair in enumerate(pairs) if not _same_losses(*pair)]
    if wrong:
        mine, its = pairs[wrong[0]]
        mistakes = _diagnosis(loss, batches, pairs)
        test.lose(_input(loss, batches[wrong[0]]), _text(its), _text(mine), mistakes, "the losses are wrong", chart)
    test.chart = chart
    return pairs


def check_gradients(test: HW10Test, loss: Loss, batches: Sequence[Batch]) -> None:
    """Both losses of each batch are right, and so are their gradients; the networks stay as they were."""
    for batch, (got, right) in zip(batches, check_values(test, loss, batches), strict=True):
        input = _input(loss, batch)
        if got.done != right.done:
            mistakes = DONE.get(got.done, ())
            test.lose(input, "the networks to stay as they were", "they did not", mistakes, "the networks were changed")
        _check_gradients_of(test, input, batch, got, right)


def _check_gradients_of(test: HW10Test, input: str, batch: Batch, got: Measured, right: Measured) -> None:
    for each, what in GRADIENTS.items():
        mine, its = getattr(got, each), getattr(right, each)
        if not _same_gradients(mine, its):
            mistakes = _of_gradients(batch, got, right)
            test.lose(f"the gradient of {what}, {input}", _norm(its), _norm(mine), mistakes, "a gradient is wrong")


def check_large(test: HW10Test, loss: Loss, batch: Batch, large: Batch) -> None:
    """Losses are right for a `batch` with ordinary logits, and for one with `large` ones; so are its gradients.

    A gradient that is wrong for ordinary logits is another test's.
    """
    ((got, right),) = check_values(test, loss, [batch])
    judged = [each for each in GRADIENTS if _same_gradients(getattr(got, each), getattr(right, each))]
    got, right = _measured(test, loss, large)
    input = _input(loss, large)
    if not _same_losses(got, right):
        test.lose(input, _text(right), _text(got), (hints.LOG_OF_ZERO,), "the losses are wrong for large logits")
    for each in judged:
        mine, its = getattr(got, each), getattr(right, each)
        if not _same_gradients(mine, its):
            input = f"the gradient of {GRADIENTS[each]}, {input}"
            test.lose(input, _norm(its), _norm(mine), (hints.LOG_OF_ZERO,), "a gradient is wrong for large logits")


def _input(loss: Loss, batch: Batch) -> str:
    return f"`{loss.function}` of {batch.description}"


def _measured(test: HW10Test, loss: Loss, batch: Batch) -> tuple[Measured, Measured]:
    """What was measured, and what is right; in 3d, a wrong d_loss is right where it is the one of 3c."""
    got, right = _measure(test, loss, batch), expected(loss, batch)
    if loss is MINIMAX and not _same_of_d(got, right):
        try:
            own = _measure(test, NONSATURATING, batch)
        except PointsLost:  # 3c returns no losses, so it is not where these come from
            return got, right
        is_random = not same(own.d_loss, own.d_again) and not same(got.d_loss, got.d_again)
        own = replace(own, d_loss=got.d_loss, d_again=got.d_again, d_of_d=got.d_of_d) if is_random else own
        right = replace(own, g_loss=right.g_loss, g_again=right.g_again, g_of_g=right.g_of_g)
    return got, right


def _same_of_d(got: Measured, right: Measured) -> bool:
    losses = same(got.d_loss, right.d_loss) and same(got.d_again, right.d_again)
    gradients = _same_gradients(got.d_of_d, right.d_of_d) and _same_gradients(got.d_of_g, right.d_of_g)
    return losses and gradients and got.done == right.done


def _measure(test: HW10Test, loss: Loss, batch: Batch) -> Measured:
    input = _input(loss, batch)
    if loss is MINIMAX:  # a right 3c stands in for the student's, so that a mistake in it costs no points in 3d
        beside = expected(NONSATURATING, batch)
        gradients = (beside.d_of_d.astype(np.float32), beside.g_of_g.astype(np.float32))
        arguments = (beside.d_loss, beside.g_loss, *gradients, *batch.arguments)
        returned = test.measure(input, FILE, loss.function, "gan.losses_beside", *arguments)
    else:
        returned = test.measure(input, FILE, loss.function, "gan.losses", *batch.arguments)
    d_size = batch.weight.size + batch.bias.size + batch.last_weight.size + 1
    g_size = batch.g_weight.size + batch.g_bias.size
    found = arrays(returned, (), (), (), (), (d_size,), (g_size,), (g_size,), ())
    if found is None:
        _lose_for_kind(test, input, returned, len(batch.z))
    d_loss, g_loss, d_again, g_again, d_of_d, d_of_g, g_of_g, done = found
    losses = (float(d_loss), float(g_loss), float(d_again), float(g_again))
    return Measured(*losses, d_of_d, d_of_g, g_of_g, float(done))


def _lose_for_kind(test: HW10Test, input: str, returned: Returned, count: int) -> NoReturn:
    shapes = [np.shape(item) for item in returned.items if isinstance(item, np.ndarray)]
    is_long = len(shapes) == 2 and any(shape and count in shape for shape in shapes)
    mistakes = (hints.NOT_AVERAGED,) if is_long else (hints.NOT_TWO,)
    got = f"{returned.description()}, of shapes {shapes[0]} and {shapes[1]}" if is_long else returned.description()
    test.lose(input, "two tensors with one number each", got, mistakes, "the result is not two losses")


def _same_losses(got: Measured, right: Measured) -> bool:
    pairs = ((got.d_loss, right.d_loss), (got.g_loss, right.g_loss), (got.d_again, right.d_again))
    return all(same(*pair) for pair in (*pairs, (got.g_again, right.g_again)))


def _same_gradients(got: Floats, right: Floats) -> bool:
    """Whether they are equal but for what float32 loses: for logits of 500, 1e-4 in a logit, and less in its slope."""
    return bool(np.allclose(got, right, rtol=0, atol=1e-3 * np.abs(right).max() + 1e-6))


def _diagnosis(loss: Loss, batches: Sequence[Batch], pairs: Sequence[tuple[Measured, Measured]]) -> Mistakes:
    """The mistakes in the losses, of which at least one is wrong."""
    if not all(same(got.d_loss, got.d_again) and same(got.g_loss, got.g_again) for got, _ in pairs):
        return (hints.OWN_NOISE,)
    if all(same(got.d_loss, right.g_loss) and same(got.g_loss, right.d_loss) for got, right in pairs):
        return (hints.ORDER,)
    cases = [batch.case for batch in batches]
    of_d = hints.diagnose_loss(
        hints.D_STAGES, [got.d_loss for got, _ in pairs], [right.d_loss for _, right in pairs], cases
    )
    of_g = hints.diagnose_loss(
        loss.stages, [got.g_loss for got, _ in pairs], [right.g_loss for _, right in pairs], cases
    )
    return (*of_d, *(mistake for mistake in of_g if mistake not in of_d))


def _of_gradients(batch: Batch, got: Measured, right: Measured) -> Mistakes:
    """The mistake in gradients of right losses; the first that is found."""
    if not got.d_of_d.any():
        return (hints.D_UNTRAINED,)
    if not _same_gradients(got.d_of_d, right.d_of_d):
        return (hints.LOGITS_DETACHED,) if _same_gradients(got.d_of_d, of_real_images(batch)) else ()
    if not _same_gradients(got.d_of_g, right.d_of_g):
        return (hints.NOT_DETACHED,)
    return () if got.g_of_g.any() else (hints.G_UNTRAINED,)


def _text(measured: Measured) -> str:
    return f"d_loss = {measured.d_loss:.6g}, g_loss = {measured.g_loss:.6g}"


def _norm(gradient: Floats) -> str:
    return f"a gradient of norm {np.sqrt((gradient**2).sum()):.4g}"
