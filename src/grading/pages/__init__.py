"""What came of a grading as a web page: one HTML file that needs nothing else."""
