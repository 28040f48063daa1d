"""The grading core. It knows no homework and no model; a homework is a `Homework` object that is passed in.

homework      Homework, Part, Artifact, Limits: how a homework is declared
dependencies  is the right Python here, and every package?
student_code  load and call the functions in a questions folder
record        run.json: how the files of submit/ were made
safe_pickle   read pickles without executing them
submission    what is missing, wrong or stale in questions/ and submit/
packing       zip it for the upload
intake        unpack what a student handed in
sandbox/      run student code in a confined process of its own
part_test     the base class of the tests that have points
results       run the tests; one record of what came of them
report        the record as results.json and as a table
command       the command line of grader.py
"""
