"""Run student code where it can do no harm, and take back plain values.

sandbox      the grader's side: the processes of one grading
forking      the fork server and the processes of a grading, seen from the grader
client       one worker, seen from the grader: its calls, their limits, what became of them
fork_server  loads PyTorch and the model once, then forks workers
worker       the process that runs student code; and the one that runs this project's own code for the grader
reader       the process that reads a zip and the files in it
shared_model the model's weights, which the fork server sees a worker change
protocol     how messages are sent, and checked on receipt
messages     the messages
confine      the rights that a process gives up; the list of what is covered, and what is not
landlock     which files it can open
readable     which these are, and which are private
places       folders of the sandbox, and whom they belong to
seccomp      which system calls it can make
memory       how much memory it may use
watch        what the grader looks at while it runs: files, memory, threads
output       what it prints
limits       the resources that a process may use
"""
