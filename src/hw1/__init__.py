"""Homework 1: sampling, likelihood and temperature, with GPT-2.

parts            HOMEWORK, its declaration: start here
run              what a part works with: the model, the student's functions, the texts
artifacts        the files that the parts leave in submit/
dataset          the texts in data/
plots            the histograms
checks/          the tests that have points
hints/           known mistakes, each with its hint
oracle           table models, and the right answers about them
messages         what crosses between the grader and a worker
worker           what homework 1 adds to the grading core's worker
make_submission  the command behind make_submission.sh
"""
