"""Homework 10: VAE, GAN, diffusion, continual learning and prompting.

parts.py         the declaration: everything else follows from it
experiments/     what experiment.py runs: training with the student's functions, and the pictures
networks/        the networks that are trained
mnist.py         the bundled digits, and the download of all of MNIST
run.py           what an experiment works with: settings, functions, device, progress, resumable training
small_lm.py      a language model so small that the tests of prompting compute it by themselves
checks/ hints/   the visible tests, and the known mistakes
harness/         what calls a student's function in its process and measures what it does, such as gradients
worker.py        what a worker process adds to the core's
"""
