"""Hidden tests of homework 10: the visible tests' checks on cases that students do not know."""

from typing import Final

from gradescope_utils.autograder_utils.decorators import hide_errors, number, visibility, weight

from src.hw10.checks import continual, diffusion, gan, prompting, vae
from src.hw10.checks.base import HW10Test

VISIBILITY: Final = "after_published"
HIDDEN = hide_errors("This test is hidden.")


class HiddenLabelTest(HW10Test):
    part = "1b"

    @number("1b.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for the shortest prompts and for long ones (hidden)"""
        prompting.check_labels(self, [(1, 1), (1, 3), (2, 6), (24, 5), (9, 9)])


class HiddenTrainedTest(HW10Test):
    part = "1c"

    @number("1c.2")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_list(self) -> None:
        """Right for another model, and for a prompt of one vector (hidden)"""
        prompting.check_trained(self, 1)
        prompting.check_trained(self, 12)


class HiddenSoftPromptTest(HW10Test):
    part = "1d"

    @number("1d.3")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_logits(self) -> None:
        """Right for other lengths and batches (hidden)"""
        for prompt, batch, length in ((3, 4, 5), (7, 2, 1), (10, 5, 12), (1, 3, 4)):
            prompting.check_logits(self, prompt, batch, length)

    @number("1d.4")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_gradient(self) -> None:
        """The gradient is right for other lengths and batches (hidden)"""
        prompting.check_gradient(self, 3, 5, 4)
        prompting.check_gradient(self, 1, 1, 1)


class HiddenNonsaturatingTest(HW10Test):
    part = "3c"

    @number("3c.4")
    @weight(3)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_losses(self) -> None:
        """Losses and gradients are right for other batches, down to one image, and for large logits (hidden)"""
        batches = [gan.a_batch(self.rng, 1), gan.a_batch(self.rng, 13), gan.a_batch(self.rng, 2, scale=3.0)]
        gan.check_gradients(self, gan.NONSATURATING, batches)
        gan.check_large(self, gan.NONSATURATING, gan.a_batch(self.rng, 3), gan.a_large_batch(self.rng, 16))


class HiddenMinimaxTest(HW10Test):
    part = "3d"

    @number("3d.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_losses(self) -> None:
        """Losses and gradients are right for other batches, down to one image, and for large logits (hidden)"""
        batches = [gan.a_batch(self.rng, 1), gan.a_batch(self.rng, 11), gan.a_batch(self.rng, 2, scale=3.0)]
        gan.check_gradients(self, gan.MINIMAX, batches)
        gan.check_large(self, gan.MINIMAX, gan.a_batch(self.rng, 3), gan.a_large_batch(self.rng, 16))


class HiddenSampleTest(HW10Test):
    part = "2a"

    @number("2a.3")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_distribution(self) -> None:
        """Draws from N(m, diag(v)) for other shapes: one image, one latent variable, few and many (hidden)"""
        for batch, size in ((300, 64), (4000, 1), (1, 400), (7, 3)):
            vae.check_samples(self, batch, size)

    @number("2a.4")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_gradient(self) -> None:
        """Lets gradients flow to m and v for other shapes (hidden)"""
        for batch, size in ((1, 40), (60, 1), (30, 64)):
            vae.check_sample_gradient(self, batch, size)


class HiddenElboTest(HW10Test):
    part = "2b"

    @number("2b.3")
    @weight(1.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_values(self) -> None:
        """Is the average for other sizes of the batch and of z (hidden)"""
        for batch, latents in ((150, 64), (1, 5), (6, 1), (3, 40)):
            vae.check_values(self, batch, latents)

    @number("2b.4")
    @weight(1.5)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_gradient(self) -> None:
        """Sends the right gradients for other sizes of the batch and of z (hidden)"""
        for batch, latents in ((1, 5), (6, 1), (12, 40)):
            vae.check_gradient(self, batch, latents)


class HiddenFisherTest(HW10Test):
    part = "5b"

    @number("5b.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for other networks, for many images and for few (hidden)"""
        for count, sizes in ((20, (3,)), (2, (7, 4)), (13, (4, 5, 3)), (6, (2, 2))):
            continual.check_fisher(self, count, sizes)


class HiddenPenaltyTest(HW10Test):
    part = "5c"

    @number("5c.2")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for one tensor, for many, and for other shapes (hidden)"""
        continual.check_penalty(self, [((7,),), ((2, 3), (2,), (4, 2), (4,), (1, 1, 3, 2)), ((1,), (1,))])


class HiddenMemoryTest(HW10Test):
    part = "5d"
    seconds = 40.0

    @number("5d.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_uniform(self) -> None:
        """Right for another capacity, for one example, and for long streams (hidden)"""
        continual.check_size(self, 3, (2, 4, 11))
        continual.check_streams(self, 6, 1500, (7, 9, 15))
        continual.check_streams(self, 2, 1500, (3, 4, 6))
        continual.check_long_streams(self, 20, 25, 1000)


class HiddenNoisingTest(diffusion.DiffusionTest):
    part = "4a"

    @number("4a.3")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for other shapes, and for one image (hidden)"""
        for shape in ((7, 3, 6, 7), (1, 1, 3, 3), (9, 2), (6,), (4, 2, 3)):
            diffusion.check_sample(self, shape, steps=11)

    @number("4a.4")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_simulation(self) -> None:
        """Has the right distribution for another process (hidden)"""
        diffusion.check_simulation(self, steps=7)


class HiddenPosteriorTest(diffusion.DiffusionTest):
    part = "4b"

    @number("4b.3")
    @weight(2)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_value(self) -> None:
        """Right for other shapes, and for one image (hidden)"""
        for shape in ((7, 3, 2, 7), (1, 1, 3, 3), (9, 2), (6,), (4, 2, 3)):
            diffusion.check_posterior(self, shape, steps=11)

    @number("4b.4")
    @weight(1)
    @visibility(VISIBILITY)
    @HIDDEN
    def test_first_step(self) -> None:
        """Right where only some images are at the first step (hidden)"""
        for shape, firsts in (((6, 1, 2, 6), 2), ((5, 4), 1), ((3, 1, 2, 2), 3)):
            diffusion.check_posterior(self, shape, steps=9, firsts=firsts)
