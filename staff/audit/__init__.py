"""The bench on which the grader is graded: submissions of which it is known what they deserve."""
