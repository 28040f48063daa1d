"""What calls a student's function in its process, with objects that only exist there, and measures what it does.

A check names a function `FILE.NAME` of this package in `Through`. It is called with the student's function, then the
call's arguments. What it returns goes back to the grader: a tensor, a number, or a tuple of them. Where the student's
function returns something else than expected, a harness returns that as it is, so that the grader can describe it.

No file here may hold a line of an answer, nor compute one: students get it.
"""
