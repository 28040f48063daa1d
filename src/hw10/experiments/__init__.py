"""What experiment.py runs: one module an experiment, with a function for each part that leaves files in submit/."""
