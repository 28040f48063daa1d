"""What grader.py needs: student code in a process of its own, exact expectations, hints, and a report.

protocol    plain values over a socket
confine     what a process gives up before it runs student code
worker      the process that runs student code, and the one that it is forked from
sandbox     the grader's side: the processes of one grading
call        one of them: a request with its limits, and what became of it
oracle      models that are tables, and what the right answers are, in float64
diagnosis   what a wrong value looks like, as a hint
assignment  the base of the tests in grader.py
report      scores as results.json and as a table
"""
