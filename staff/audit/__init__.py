"""The audit: it grades submissions whose points are known, and checks that the grader gives exactly these."""
